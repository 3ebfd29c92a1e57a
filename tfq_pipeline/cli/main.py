"""`tfq`: finds the verb, reads its flags, runs it, and turns whatever happens into an exit code."""

from __future__ import annotations

import contextlib
import difflib
import faulthandler
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn, Protocol, TextIO

from absl import flags

from tfq_pipeline.cli.terminal import Terminal, own_streams
from tfq_pipeline.errors import BadInput, DeviceFailed, TfqError

INTERRUPTED = 130

# absl's spellings of --help, as its other programs have them.
_HELP = ("-h", "--help", "-help", "--helpshort", "-helpshort", "--helpfull", "-helpfull")

VERBS: Mapping[str, str] = {
    "quantize": "run a recipe on a model and write a .tflite",
    "evaluate": "measure a model on labelled data",
    "inspect": "what is in a .tflite: ops, weights by bits, sizes",
    "benchmark": "latency and memory on this machine, a phone or an emulated device",
    "devices": "this machine and what adb sees",
    "recipes": "the built-in recipes, or the text of one",
    "report": "the HTML page of a run",
}


class Verb(Protocol):
    """What a verb's module has.

    Attributes:
        USAGE: its arguments and most used flags.
    """

    USAGE: str

    @staticmethod
    def define(values: flags.FlagValues) -> None:
        """Defines the verb's flags."""

    @staticmethod
    def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
        """Does it; returns the JSON document."""

    @staticmethod
    def show(document: Any, terminal: Terminal) -> None:
        """Writes the document as text."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0 done, 1 a gate failed, 2 bad usage or input, 3 the device or runtime failed, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except TfqError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _interrupted(sys.stderr)
    except BrokenPipeError:
        # The reader of a pipe went away; point stdout elsewhere so that the interpreter's last flush is silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def program() -> NoReturn:
    """The console script. What libraries still print while the interpreter goes down is no part of the result."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        raise BadInput("no verb; 'tfq --help' lists them")
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if arguments[0] in _HELP:
        print(_overview())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"tfq {version('tfq')}")
        return 0
    name = arguments[0]
    if name.startswith("-"):
        raise BadInput(f"{name}: flags stand behind the verb; write 'tfq VERB {name}'")
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, 1)
        known = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(VERBS)}"
        raise BadInput(f"'{name}' is no verb; {known}")
    verb: Any = importlib.import_module(f"tfq_pipeline.cli.{name}")
    values = _flags(verb)
    rest = _parse(name, values, arguments)
    if values.help:
        print(_help(name, verb, values))
        return 0
    return _run(verb, rest, values)


def _run(verb: Verb, rest: Sequence[str], values: flags.FlagValues) -> int:
    with own_streams(values.verbosity) as terminal, _signals():
        faulthandler.enable(terminal.err)
        try:
            document = verb.run(rest, values, terminal)
            if values.json:
                print(json.dumps(document, indent=2), file=terminal.out)
            else:
                verb.show(document, terminal)
            terminal.out.flush()
        except KeyboardInterrupt:
            return _interrupted(terminal.err)
        except BrokenPipeError:
            raise
        except Exception as error:
            if values.verbosity > 0:
                traceback.print_exc(file=terminal.err)
            return _failed(_as_ours(error), terminal)
        finally:
            faulthandler.disable()
    return 0


def _as_ours(error: Exception) -> TfqError:
    """Anything else that was raised, as an error of the contract."""
    if isinstance(error, TfqError):
        return error
    if isinstance(error, OSError) and error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}; check the path, its permissions and the disk")
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return DeviceFailed(f"{type(error).__name__}: {first}; a fault in tfq: --verbosity=1 shows where")


def _interrupted(stream: TextIO) -> int:
    print("tfq: interrupted; nothing was left half-written", file=stream, flush=True)
    return INTERRUPTED


def _failed(error: TfqError, terminal: Terminal | None = None) -> int:
    line = " ".join(str(error).split())
    print(f"tfq: error: {line}", file=sys.stderr if terminal is None else terminal.err, flush=True)
    return error.exit_code


def _flags(verb: Verb) -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    verb.define(values)
    for name, default, text in (("json", False, "Print one JSON document."), ("help", False, "Show this help.")):
        flags.DEFINE_bool(name, default, text, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, flag_values=values)
    flags.DEFINE_integer(
        "verbosity", 0, "1 adds tracebacks and what libraries print; -1 leaves errors alone.", flag_values=values
    )
    return values


def _parse(name: str, values: flags.FlagValues, arguments: list[str]) -> list[str]:
    words = ["--help" if word in _HELP else _underscored(word) for word in arguments[1:]]
    try:
        return list(values([f"tfq {name}", *words])[1:])
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, list(values), 1)
        hint = f"did you mean --{close[0]}?" if close else f"'tfq {name} --help' lists them"
        raise BadInput(f"--{error.flagname}: unknown flag of {name}; {hint}") from error
    except flags.Error as error:
        said = str(error).removeprefix("ERROR:: ")
        raise BadInput(f"{said}; see 'tfq {name} --help'") from error


def _underscored(word: str) -> str:
    """A flag spelled with dashes (--target-drop) in absl's spelling; its value and other words as they are."""
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else word


@contextlib.contextmanager
def _signals() -> Any:
    """SIGTERM unwinds as Ctrl-C does, so that devices are shut down and partial files removed."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, where signals arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, text in VERBS.items())
    return f"""\
tfq: low-bit quantization of Keras models to .tflite, and measuring on devices

usage: tfq VERB [ARGUMENTS] [FLAGS]

{verbs}

'tfq VERB --help' lists a verb's flags. Every verb takes --json, --seed and --verbosity.
Exit codes: 0 done, 1 a gate or comparison failed, 2 bad usage or input, 3 the device or runtime failed.

example: tfq quantize model.keras --recipe static_wi4_ai8 --calibration samples.npz --output model.tflite"""


def _help(name: str, verb: Verb, values: flags.FlagValues) -> str:
    lines = [f"tfq {name}: {VERBS[name]}", "", f"usage: tfq {name} {verb.USAGE}", ""]
    described = [(f"--{flag}", values[flag]) for flag in sorted(values)]
    width = max(len(shown) for shown, _ in described)
    for shown, flag in described:
        default = "" if flag.default in (None, False, "") else f" (default {flag.default})"
        lines.append(f"  {shown:<{width}}  {flag.help}{default}")
    return "\n".join(lines)


if __name__ == "__main__":
    program()
