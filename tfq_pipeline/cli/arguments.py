"""Checks that verbs share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tfq_pipeline.errors import BadInput


def one(args: Sequence[str], verb: str, what: str) -> str:
    """The only positional argument.

    Raises:
        BadInput: none, or several.
    """
    if len(args) != 1:
        found = f"{len(args)} ({', '.join(args)})" if args else "none"
        raise BadInput(f"tfq {verb} takes one {what}, found {found}; see 'tfq {verb} --help'")
    return args[0]


def none(args: Sequence[str], verb: str) -> None:
    """Raises BadInput for any positional argument."""
    if args:
        raise BadInput(f"tfq {verb} takes no arguments, found {', '.join(args)}; see 'tfq {verb} --help'")


def needed(value: str | None, flag: str, what: str) -> str:
    """The value of a flag that must be given.

    Raises:
        BadInput: it was not.
    """
    if not value:
        raise BadInput(f"--{flag}: missing; give {what}")
    return value


def writable(path: str, flag: str) -> Path:
    """A file that can be written: found out before hours of work, not after.

    Raises:
        BadInput: its folder is not there or cannot be written to, or the path is a folder.
    """
    target = Path(path)
    parent = target.parent
    if target.is_dir():
        raise BadInput(f"--{flag}={path}: is a folder; name a file")
    if not parent.is_dir():
        raise BadInput(f"--{flag}={path}: there is no folder {parent}; make it first")
    if not os.access(parent, os.W_OK):
        raise BadInput(f"--{flag}={path}: the folder {parent} cannot be written to; choose another")
    return target


def folder(path: str, flag: str) -> Path:
    """A folder that is there and can be written to, or that can be made.

    Raises:
        BadInput: the path is a file, or nothing can be made there.
    """
    target = Path(path)
    nearest = next(p for p in (target, *target.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise BadInput(f"--{flag}={path}: {nearest} is a file; name a folder")
    if not os.access(nearest, os.W_OK):
        raise BadInput(f"--{flag}={path}: the folder {nearest} cannot be written to; choose another")
    return target


def present(path: str, what: str) -> Path:
    """A path that exists.

    Raises:
        BadInput: it does not.
    """
    if not os.path.lexists(path):
        raise BadInput(f"{path}: no such file; give {what}")
    return Path(path)
