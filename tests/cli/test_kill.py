"""kill -9 at any moment, and Ctrl-C, to real processes: nothing is lost and nothing changes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import polyrank
from polyrank.report.records import load as load_records

FILES = ("adapter_config.json", "adapter_model.safetensors")
KILLER = Path(__file__).with_name("killer.py")


def bits(folder: Path) -> list[bytes]:
    return [(folder / "adapter" / name).read_bytes() for name in FILES]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flora", "fedhl"])
def test_kill_9_at_any_moment_and_resume_gives_the_same_bytes(
    name: str, recipe: Path, tmp_path: Path
) -> None:
    """flora keeps private client state, fedhl a full-rank state: both survive every kill."""
    text = recipe.read_text().replace("algorithm: replicate", f"algorithm: {name}")
    recipe.write_text(text.replace("rounds: 3", "rounds: 6\nparticipation: 0.5"))
    for seed in (0, 1):
        folder = tmp_path / f"killed-{seed}"
        done = subprocess.run(
            [sys.executable, KILLER, recipe, folder, str(seed)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        _, midway = map(int, done.stdout.split())
        assert midway >= 1
    whole = polyrank.run(polyrank.load_recipe(recipe, ["name=whole"]))
    for seed in (0, 1):
        assert bits(tmp_path / f"killed-{seed}") == bits(whole.folder)


def test_ctrl_c_ends_with_the_finished_rounds_safe(recipe: Path) -> None:
    command = [sys.executable, "-m", "polyrank"]
    run = subprocess.Popen(
        [*command, "run", str(recipe), "rounds=200"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert run.stdout is not None
    for line in run.stdout:
        if line.strip().startswith("round   2"):
            break
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    folder = Path(polyrank.load_recipe(recipe).output.dir) / "tiny"
    assert err.strip() == (
        f"polyrank: stopped; every finished round is safe: polyrank resume {folder}"
    )
    assert (folder / "checkpoint.safetensors").exists()
    records = load_records(folder / "records.jsonl")
    assert records.done >= 2
