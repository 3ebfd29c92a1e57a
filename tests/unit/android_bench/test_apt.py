"""Finding the mirror in apt's sources, in both of their formats; unpacking packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from android_bench.emulator.apt import Apt, Source, find_mirror, parse_deb822, parse_list, unpack
from tfq_pipeline.errors import DeviceFailed

ONE_LINE = """
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://tools.example/apt nodistro main
deb-src http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb [signed-by=/k.gpg] http://mirror.example/debian trixie main contrib  # ours
"""

DEB822 = """
# a comment
Types: deb deb-src
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/debian
 http://second.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg
"""


def test_one_line_format() -> None:
    assert list(parse_list(ONE_LINE)) == [
        Source("http://tools.example/apt", ("nodistro",), ("main",)),
        Source("http://security.example/debian-security", ("bookworm-security",), ("main",)),
        Source("http://mirror.example/debian", ("trixie",), ("main", "contrib")),
    ]


def test_deb822_format() -> None:
    suites = ("bookworm", "bookworm-updates")
    assert list(parse_deb822(DEB822)) == [
        Source("http://security.example/debian-security", ("bookworm-security",), ("main",)),
        Source("http://mirror.example/debian", suites, ("main",)),
        Source("http://second.example/debian", suites, ("main",)),
    ]


@pytest.mark.parametrize(("name", "text"), [("sources.list", ONE_LINE), ("sources.list.d/debian.sources", DEB822)])
def test_mirror_is_the_main_archive(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "off.list.disabled").write_text("deb http://off.example/debian trixie main\n")
    (tmp_path / name).write_text(text)
    assert find_mirror(tmp_path) == "http://mirror.example/debian"


def test_no_mirror_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="give one with --mirror=URI"):
        find_mirror(tmp_path)


def test_unreachable_mirror_is_named(tmp_path: Path) -> None:
    # Port 9 of this machine: refused at once, with or without a network.
    with pytest.raises(DeviceFailed, match=r"cannot fetch lists of packages of Debian trixie from http://127.0.0.1:9/"):
        Apt(tmp_path, "http://127.0.0.1:9/debian", "trixie").update()


def package(folder: Path, files: dict[str, str], links: dict[str, str]) -> Path:
    """Builds a .deb file."""
    root = folder / "package"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, target in links.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)
    command = ["dpkg-deb", "--root-owner-group", "--build", str(root), str(folder / "x.deb")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "x.deb"


def test_unpack_keeps_merged_folders_and_leaves_documentation_out(tmp_path: Path) -> None:
    files = {"bin/tool": "tool", "usr/share/doc/x/README": "read me", "usr/lib/data": "data"}
    deb = package(tmp_path, files, {"usr/lib/link": "data"})
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    unpack(deb, root)
    assert (root / "bin").is_symlink()
    assert (root / "usr/bin/tool").read_text() == "tool"
    assert (root / "usr/lib/link").readlink() == Path("data")
    assert not (root / "usr/share/doc/x").exists()


def test_unpack_of_one_file(tmp_path: Path) -> None:
    deb = package(tmp_path, {"usr/bin/a": "a", "usr/bin/b": "b"}, {})
    unpack(deb, tmp_path / "root", only="./usr/bin/b")
    assert [path.name for path in (tmp_path / "root/usr/bin").iterdir()] == ["b"]
    with pytest.raises(DeviceFailed, match=r"lacks \./usr/bin/c"):
        unpack(deb, tmp_path / "root", only="./usr/bin/c")


def test_unpack_of_half_a_package(tmp_path: Path) -> None:
    deb = package(tmp_path, {"usr/bin/a": "a" * 100_000}, {})
    deb.write_bytes(deb.read_bytes()[:-40])
    with pytest.raises(DeviceFailed, match="not a whole package"):
        unpack(deb, tmp_path / "root")
