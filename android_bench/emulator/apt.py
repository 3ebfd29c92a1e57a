"""Debian packages of another release and architecture, fetched and unpacked without root and beside this machine's apt.

The mirror is the one that this machine's apt already uses; apt itself checks the signatures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfq_pipeline.errors import DeviceFailed

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SUITES = re.compile(
    r"(bullseye|bookworm|trixie|forky|duke|sid|stable|oldstable|testing|unstable)(-updates|-backports)?/?"
)


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources: where and which suites and components."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]


def parse_list(text: str) -> Iterator[Source]:
    """Entries of a one-line file: ``deb [option=value ...] URI SUITE COMPONENT...``."""
    for line in text.splitlines():
        match = re.fullmatch(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)\s*(?:#.*)?", line)
        if match:
            yield Source(match[1], (match[2],), tuple(match[3].split()))


def parse_deb822(text: str) -> Iterator[Source]:
    """Entries of a ``.sources`` file: paragraphs of fields, continued on lines that begin with a space."""
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in (
            "no",
            "false",
            "0",
        ):
            for uri in fields.get("uris", "").split():
                yield Source(uri, tuple(fields.get("suites", "").split()), tuple(fields.get("components", "").split()))


def find_mirror(root: Path = Path("/etc/apt")) -> str:
    """URI of the Debian mirror that this machine's apt is set up with.

    Raises:
        DeviceFailed: none of its sources is Debian's main archive.
    """
    files = [root / "sources.list", *sorted((root / "sources.list.d").glob("*"))]
    for file in files:
        parse = {".list": parse_list, ".sources": parse_deb822}.get(file.suffix)
        if parse is None or not file.is_file():
            continue
        for source in parse(file.read_text(errors="replace")):
            if "main" in source.components and any(_SUITES.fullmatch(suite) for suite in source.suites):
                return source.uri
    raise DeviceFailed(
        f"emulator: no Debian mirror in {root}/sources.list or {root}/sources.list.d; give one with --mirror=URI"
    )


@dataclass(frozen=True)
class Apt:
    """A private apt: its lists, its cache, one suite of one mirror.

    Attributes:
        folder: where its files lie; made by `update`.
        mirror: URI of a Debian archive.
        suite: name of the release.
    """

    folder: Path
    mirror: str
    suite: str

    def update(self) -> None:
        """Fetches the lists of packages."""
        for name in ("lists/partial", "archives/partial", "parts"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        if not KEYRING.is_file():
            raise DeviceFailed(
                f"emulator: {KEYRING} is missing; install it with: apt-get install debian-archive-keyring"
            )
        (self.folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {self.mirror} {self.suite} main\n")
        self._run("arm64", ["update"])

    def install(self, architecture: str, packages: Iterable[str]) -> list[Path]:
        """Fetches packages with all that they depend on; returns the .deb files."""
        self._run(architecture, ["-y", "--download-only", "install", *packages])
        return sorted((self.folder / "archives").glob("*.deb"))

    def download(self, architecture: str, package: str, folder: Path) -> Path:
        """Fetches one package alone into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._run(architecture, ["download", f"{package}:{architecture}"], cwd=folder)
        return next(folder.glob(f"{package}_*.deb"))

    def _run(self, architecture: str, arguments: Sequence[str], cwd: Path | None = None) -> None:
        options = {
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder,
            "Dir::Cache::archives": self.folder / "archives",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": self.folder / "parts",
            "APT::Architecture": architecture,
            "APT::Architectures": "arm64,amd64",
            "APT::Install-Recommends": "0",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Debug::NoLocking": "1",
        }
        command = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self.folder,
                env=environment,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=900,
                check=False,
            )
        except FileNotFoundError as error:
            raise DeviceFailed(
                "emulator: apt-get not found; the emulated device is built from Debian packages on a Debian-like host"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise DeviceFailed(
                f"emulator: no answer from {self.mirror} in 15 minutes; check the network or give another --mirror"
            ) from error
        if done.returncode != 0:
            lines = (
                [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err:"))]
                or done.stderr.splitlines()
                or ["no message"]
            )
            what = "lists of packages" if arguments == ["update"] else arguments[-1]
            raise DeviceFailed(
                f"emulator: cannot fetch {what} of Debian {self.suite} from {self.mirror} ({lines[0].strip()}); "
                "check the network, or give another --mirror=URI"
            )


def unpack(package: Path, root: Path, only: str | None = None) -> None:
    """Unpacks a .deb file into a folder, without documentation and translations, owned by whoever runs this.

    Args:
        only: one path inside the package to unpack, all when None.
    """
    if shutil.which("dpkg-deb") is None:
        raise DeviceFailed("emulator: dpkg-deb not found; install it with: apt-get install dpkg")
    skipped = ("./usr/share/doc/", "./usr/share/locale/", "./usr/share/man/", "./usr/share/lintian/")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if only is not None and member.name == only:
                        _place(archive, member, root)
                        process.kill()
                        return
                    if only is None and not member.name.startswith(skipped):
                        _place(archive, member, root)
            process.stdout.read()
        except tarfile.TarError as error:
            raise DeviceFailed(f"emulator: {package.name} is not a whole package ({error}); try again") from error
    if process.returncode != 0 or only is not None:
        raise DeviceFailed(f"emulator: {package.name} is not a whole package or lacks {only or 'its end'}; try again")


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    target = root / member.name
    if member.isdir():
        # The folder may be a link to its merged place (/bin to /usr/bin): keep the link.
        target.mkdir(parents=True, exist_ok=True)
    elif member.issym() or member.islnk():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if member.issym():
            target.symlink_to(member.linkname)
        else:
            target.hardlink_to(root / member.linkname)
    elif member.isfile():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        content = archive.extractfile(member)
        assert content is not None
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)
        target.chmod(member.mode & 0o755)
