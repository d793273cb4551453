"""LoRA on one module: PEFT's function and PEFT's gradient step, and clear refusals."""

import copy
from collections.abc import Callable, Mapping

import peft
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D

from polyrank.client.model import Workbench, load, template
from polyrank.client.placing import place, take, trainable
from polyrank.client.pretrained import open_model
from polyrank.client.quick import quicken
from polyrank.errors import RecipeError
from polyrank.lora.factor import Factor
from polyrank.lora.layer import Pair, attach, shape
from polyrank.lora.targets import check_rank, find
from polyrank.recipe.schema import Lora

# PEFT asks a model for it under the old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
CLASSES = ["sport", "world", "science"]
TARGETS = {
    "minilm": ("query", "value", "attention.output.dense"),
    "gpt2_folder": ("c_attn", "c_proj"),
    "llama_folder": ("q_proj", "k_proj", "v_proj", "down_proj"),
}
RANK, SCALE = 4, 2.0
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # With a small eps a first step is the gradient's sign, also where that is rounding.
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01, eps=1e-4),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
}


def random_factors(bench: Workbench) -> dict[str, Factor]:
    generator = torch.Generator().manual_seed(7)
    return {
        name: Factor(
            torch.randn(f.a.shape, generator=generator) / 8,
            torch.randn(f.b.shape, generator=generator) / 8,
            SCALE,
        )
        for name, f in template(bench, RANK).items()
    }


def with_peft(base: nn.Module, factors: Mapping[str, Factor], lora: Lora) -> peft.PeftModel:
    """PEFT's LoRA on the same base and head, with the same factors."""
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=RANK, lora_alpha=SCALE * RANK, lora_dropout=lora.dropout,
        target_modules=list(lora.targets), fan_in_fan_out="c_attn" in lora.targets,
    )  # fmt: skip
    model = peft.get_peft_model(base, config)
    for name, f in factors.items():
        module = model.get_submodule(f"base_model.model.{name}")
        module.lora_A.default.weight.data.copy_(f.a)
        module.lora_B.default.weight.data.copy_(f.b)
    return model


def batch(bench: Workbench) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(8)
    ids = torch.randint(1, min(17, bench.net.config.vocab_size), (4, 12), generator=generator)
    mask = torch.ones_like(ids)
    ids[0, 8:], mask[0, 8:] = bench.tokenizer.pad_token_id, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 1])}


@pytest.fixture(params=TARGETS)
def model(request: pytest.FixtureRequest) -> tuple[str, Lora]:
    """A model's name or folder, and LoRA on some of its layers."""
    name = request.param
    folder = name if name == "minilm" else str(request.getfixturevalue(name))
    return folder, Lora(targets=TARGETS[name])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_one_step_is_pefts_step(model: tuple[str, Lora], optimizer: str, dropout: float):
    lora = model[1].model_copy(update={"dropout": dropout})
    bench = load(model[0], CLASSES, lora, seed=0)
    factors = random_factors(bench)
    place(bench, factors)
    oracle = with_peft(open_model(model[0], CLASSES, seed=0).net, factors, lora)
    quicken(oracle)  # that the same dropout can be drawn on both sides, and the same products
    tokens = batch(bench)
    bench.net.eval(), oracle.eval()
    with torch.no_grad():
        assert torch.equal(bench.net(**tokens).logits, oracle(**tokens).logits)
    parameters = [p for group in trainable(bench) for p in group]
    theirs = [p for p in oracle.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == sum(p.numel() for p in theirs)
    for net, trained in ((bench.net, parameters), (oracle, theirs)):
        net.train()
        step = OPTIMIZERS[optimizer](trained)
        torch.manual_seed(9)
        net(**tokens).loss.backward()
        step.step()
    trained_factors, head = take(bench)
    for name, f in trained_factors.items():
        module = oracle.get_submodule(f"base_model.model.{name}")
        assert not torch.equal(f.b, factors[name].b)
        torch.testing.assert_close(f.a, module.lora_A.default.weight.data, rtol=0, atol=1e-6)
        torch.testing.assert_close(f.b, module.lora_B.default.weight.data, rtol=0, atol=1e-6)
    for name, tensor in head.items():
        module, _, which = name.rpartition(".")
        saved = oracle.get_submodule(f"base_model.model.{module}.modules_to_save.default")
        torch.testing.assert_close(tensor, getattr(saved, which).data, rtol=0, atol=1e-6)


def test_a_bfloat16_module_is_computed_in_bfloat16_with_float32_factors():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5)).bfloat16()
    config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["0"], init_lora_weights=False)
    oracle = peft.get_peft_model(copy.deepcopy(plain), config)  # casts its factors to float32
    factors = oracle.base_model.model[0]
    layer = attach(plain[0])
    layer.place([Pair(Factor(factors.lora_A.default.weight, factors.lora_B.default.weight))])
    x = torch.randn(3, 6).bfloat16()
    ours = plain(x)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, oracle(x), rtol=2e-2, atol=1e-2)
    ours.sum().backward()
    found = layer.pairs[0].a
    assert found.dtype == found.grad.dtype == torch.float32
    oracle(x).sum().backward()
    torch.testing.assert_close(found.grad, factors.lora_A.default.weight.grad, rtol=2e-2, atol=1e-2)


def test_conv1d_adds_the_dense_update():
    torch.manual_seed(0)
    module = Conv1D(5, 3)  # 3 in, 5 out
    x = torch.randn(2, 7, 3)
    before = module(x)
    factor = Factor(torch.randn(2, 3), torch.randn(5, 2), 0.5)
    attach(module).place([Pair(factor)])
    assert shape(module) == (5, 3)
    torch.testing.assert_close(module(x), before + x @ factor.delta.T)


def test_a_module_keeps_its_name_and_a_copy_its_own_factors():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    layer = attach(net[0], dropout=0.5)
    assert [type(m) for m in net] == [nn.Linear, nn.ReLU]
    layer.place([Pair(Factor(torch.ones(1, 3), torch.ones(3, 1)))])
    twin = copy.deepcopy(net).eval()
    layer.place([Pair(Factor(torch.zeros(2, 3), torch.zeros(3, 2)))])
    x = torch.ones(1, 3)
    net.eval()
    torch.testing.assert_close(twin(x), torch.relu(net[0](x) + 3.0))
    assert not layer.training


def bert() -> nn.Module:
    with torch.device("meta"):
        return BertForSequenceClassification(BertConfig(num_hidden_layers=12))


def test_a_target_is_a_name_or_the_end_of_one_in_model_order():
    net = bert()
    assert len(find(net, ["attention.output.dense"])) == 12
    assert len(find(net, ["output.dense"])) == 24
    one = "bert.encoder.layer.1.attention.self.query"
    assert list(find(net, [one])) == [one]
    both = list(find(net, ["value", "query"]))
    assert both[:2] == [n.replace(".1.", ".0.") for n in (one, one.replace("query", "value"))]
    assert find(net, ["dense"], exclude=["bert.pooler"]).keys().isdisjoint({"bert.pooler.dense"})


VALID = "query, key, value, attention.output.dense, intermediate.dense, output.dense, pooler.dense"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("qeury", f"no layer is called 'qeury'; did you mean 'query'? valid: {VALID}"),
        ("uery", f"no layer is called 'uery'; did you mean 'query'? valid: {VALID}"),
        ("zz9", "no layer is called 'zz9'; valid: attention.output.dense, intermediate.dense, "
                "key, output.dense, pooler.dense, query, value"),
        ("LayerNorm", "'LayerNorm' is of type LayerNorm, but LoRA adapts Linear and Conv1D "
                      f"layers; valid: {VALID}"),
        ("word_embeddings", "'word_embeddings' is of type Embedding, but LoRA adapts Linear and "
                            f"Conv1D layers; valid: {VALID}"),
        ("classifier", f"'classifier' is the model's head, which is never adapted; "
                       f"valid: {VALID}"),
    ],
)  # fmt: skip
def test_a_target_that_names_no_layer_is_explained(target: str, problem: str):
    with pytest.raises(RecipeError) as caught:
        find(bert(), ["query", target], exclude=["classifier"])
    assert (caught.value.key, caught.value.problem) == ("lora.targets", problem)


def test_attention_that_never_calls_its_projection_is_not_adapted():
    net = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "linear": nn.Linear(8, 8)})
    with pytest.raises(RecipeError, match="NonDynamicallyQuantizableLinear"):
        find(net, ["out_proj"])


def test_a_rank_above_the_smallest_layer_is_refused():
    shapes = {"square": (10, 10), "k_proj": (8, 16)}
    check_rank(shapes, 8)
    with pytest.raises(RecipeError) as caught:
        check_rank(shapes, 9)
    assert str(caught.value) == (
        "lora.ranks: rank 9 is too large for layer 'k_proj' of shape (8, 16); "
        "the largest rank that works is 8"
    )
