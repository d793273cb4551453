"""The memory that is free, from what the system writes down."""

from pathlib import Path

import pytest
import torch

from polyrank.client.room import free

CPU = torch.device("cpu")


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 999 kB\nMemAvailable:     100 kB\n"}


def test_this_machine_says_something() -> None:
    found = free(CPU)
    assert found is None or found > 0


def test_where_nothing_is_written_nothing_is_known(tmp_path: Path) -> None:
    assert free(CPU, tmp_path) is None


@pytest.mark.parametrize("path", ["/", "/a", "/a/b"])
def test_the_tightest_group_of_version_2_counts(tmp_path: Path, path: str) -> None:
    root = write(tmp_path, {**MEMINFO, "proc/self/cgroup": f"0::{path}\n"})
    group = "sys/fs/cgroup"
    assert free(CPU, root) == 102400
    write(root, {f"{group}/a/memory.max": "5000\n", f"{group}/a/memory.current": "2000\n"})
    write(root, {f"{group}/a/b/memory.max": "max\n", f"{group}/a/b/memory.current": "1000\n"})
    assert free(CPU, root) == (102400 if path == "/" else 3000)
    write(root, {f"{group}/a/memory.stat": "anon 7\ninactive_file 500\n"})
    assert free(CPU, root) == (102400 if path == "/" else 3500)


def test_a_group_of_version_1_counts(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/memory/job"
    files = {
        "proc/self/cgroup": "3:cpu:/job\n2:memory:/job\n",
        f"{top}/memory.limit_in_bytes": "900\n",
        f"{top}/memory.usage_in_bytes": "1000\n",
    }
    assert free(CPU, write(tmp_path, {**MEMINFO, **files})) == 0
