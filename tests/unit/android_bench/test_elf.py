"""DT_NEEDED entries against what the linker was told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from android_bench.elf import needed, neighbours


@pytest.mark.parametrize("compiler", ["g++", "aarch64-linux-gnu-g++"])
def test_chain_of_libraries(tmp_path: Path, compiler: str) -> None:
    source = tmp_path / "f.cc"
    source.write_text("int f() { return 1; }\n")
    build = [compiler, "-shared", "-fPIC", "-nostdlib", f"-L{tmp_path}", "-Wl,--no-as-needed", str(source)]
    for name, wants in (("libc1.so", []), ("libb1.so", ["-lc1"]), ("liba1.so", ["-lb1"])):
        subprocess.run([*build, *wants, "-o", str(tmp_path / name)], check=True)
    assert needed(tmp_path / "liba1.so") == ["libb1.so"]
    assert needed(tmp_path / "libc1.so") == []
    assert [path.name for path in neighbours(tmp_path / "liba1.so")] == ["libb1.so", "libc1.so"]


def test_what_is_not_a_library(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert needed(tmp_path / "text") == []
