"""Adapter folders that PEFT itself wrote, in every form that it has, and those that are broken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from polyrank.errors import StorageError
from polyrank.lora import incoming, tensors
from polyrank.lora.configured import configured
from polyrank.lora.factor import Adapter
from polyrank.lora.peft import Told, contents


class Net(nn.Module):
    """Two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({"query": nn.Linear(6, 8), "up": nn.Linear(8, 6)}) for _ in range(2)
        )
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer["up"](layer["query"](x).tanh())
        return self.classifier(x)


def trained(folder: Path, **config: Any) -> nn.Module:
    """A PEFT model with random factors, biases and head, saved by PEFT."""
    torch.manual_seed(0)
    said = {"r": 3, "target_modules": ["query", "up"], "init_lora_weights": False, **config}
    model = peft.get_peft_model(Net(), peft.LoraConfig(**said))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and "lora_" not in name:
                p.add_(torch.randn_like(p))
    model.save_pretrained(folder)
    return model


def base() -> Net:
    torch.manual_seed(0)
    return Net()


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"lora_alpha": 5},
    "rslora": {"lora_alpha": 5, "use_rslora": True},
    "patterns": {
        "rank_pattern": {"query": 2, "^layers.1.up": 5}, "alpha_pattern": {"layers.0.query": 7},
        "use_rslora": True,
    },
    "head": {"modules_to_save": ["classifier"]},
    "biases of layers": {"bias": "lora_only", "modules_to_save": ["classifier"]},
    "all biases": {"bias": "all", "modules_to_save": ["classifier"]},
    "all biases, one kind of layer": {"bias": "all", "target_modules": r".*\.query"},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layers"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_peft_wrote_goes_out_again_as_the_same_function(form: str, tmp_path: Path) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    wanted = trained(tmp_path / "in", **FORMS[form])(x)
    one = incoming.read(tmp_path / "in")
    (tmp_path / "out").mkdir()
    for name, data in contents(one.adapter, Told.of(one)).items():
        (tmp_path / "out" / name).write_bytes(data)
    again = peft.PeftModel.from_pretrained(base(), str(tmp_path / "out"))
    assert not torch.allclose(base()(x), wanted, rtol=1e-3)
    torch.testing.assert_close(again(x), wanted, rtol=1e-5, atol=1e-6)


def test_every_key_that_the_installed_peft_writes_is_known(tmp_path: Path) -> None:
    said = {**peft.LoraConfig().to_dict(), "target_modules": [], "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(said, default=list))
    assert configured(tmp_path / "adapter_config.json")["r"] == 8


def test_dora_that_peft_wrote_is_refused_with_the_reason(tmp_path: Path) -> None:
    trained(tmp_path / "in", use_dora=True)
    assert "use_dora is True; DoRA scales every row of W0 + s·BA" in refused(tmp_path / "in")


def sharded(folder: Path) -> Path:
    """The same folder in two shards."""
    trained(folder, modules_to_save=["classifier"])
    found = load_file(folder / tensors.WEIGHTS)
    places = {}
    for i in range(2):
        name = f"adapter_model-{i + 1:05}-of-00002.safetensors"
        own = {key: t for n, (key, t) in enumerate(found.items()) if n % 2 == i}
        save_file(own, folder / name)
        places |= dict.fromkeys(own, name)
    (folder / tensors.WEIGHTS).unlink()
    (folder / tensors.INDEX).write_text(json.dumps({"weight_map": places}))
    return folder


def test_shards_are_one_adapter(tmp_path: Path) -> None:
    trained(tmp_path / "whole", modules_to_save=["classifier"])
    one, two = incoming.read(tmp_path / "whole").adapter, incoming.read(sharded(tmp_path / "in"))
    assert one.factors.keys() == two.adapter.factors.keys()
    for name, f in one.factors.items():
        assert torch.equal(f.delta, two.adapter.factors[name].delta)
    assert {n: t.shape for n, t in one.dense.items()} == {
        n: t.shape for n, t in two.adapter.dense.items()
    }


def refused(folder: Path, read: Callable[[Path], object] = incoming.read) -> str:
    with pytest.raises(StorageError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "F")


def test_broken_shards_are_one_line(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "in")
    first = folder / "adapter_model-00001-of-00002.safetensors"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    assert refused(folder).startswith(f"F/{first.name} cannot be read: ")
    first.unlink()
    assert refused(folder).startswith(f"F/{first.name} cannot be read: ")
    for index, line in (
        ('{"weight_map": {"a": "../../secret.safetensors"}}',
         f"F/{tensors.INDEX} names '../../secret.safetensors', which is no safetensors file"),
        ("{", f"F/{tensors.INDEX} cannot be read: Expecting"),
        ("[]", f"F/{tensors.INDEX} cannot be read: "),
    ):  # fmt: skip
        (folder / tensors.INDEX).write_text(index)
        assert refused(folder).startswith(line)


def test_numbers_that_are_none_and_a_folder_without_layers_are_one_line(tmp_path: Path) -> None:
    trained(tmp_path)
    found = load_file(tmp_path / tensors.WEIGHTS)
    key = "base_model.model.layers.0.query.lora_A.weight"
    found[key][0, 0] = torch.nan
    save_file(found, tmp_path / tensors.WEIGHTS)
    assert refused(tmp_path) == (
        f"F/{tensors.WEIGHTS}: tensor {key!r} has values that are no finite numbers"
    )
    save_file({}, tmp_path / tensors.WEIGHTS)
    assert refused(tmp_path) == f"F/{tensors.WEIGHTS} has no lora_A and lora_B: it adapts no layer"
    (tmp_path / "adapter_config.json").unlink()
    assert "there is no such file; a PEFT adapter is a folder with" in refused(tmp_path)


def test_a_file_of_facts_that_is_broken_is_one_line(tmp_path: Path) -> None:
    trained(tmp_path)
    assert incoming.read(tmp_path).facts == {}
    (tmp_path / incoming.FACTS).write_text("{")
    assert refused(tmp_path).startswith("F/polyrank.json cannot be read: Expecting")
    (tmp_path / incoming.FACTS).write_text("[]")
    assert refused(tmp_path) == "F/polyrank.json holds no mapping; delete it, or restore it"


def test_nothing_is_no_adapter(tmp_path: Path) -> None:
    assert "the adapter is empty" in refused(
        tmp_path, lambda folder: contents(Adapter({}), Told("m"))
    )
