"""What the command line writes to: results on stdout, progress and messages on stderr, noise of libraries nowhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.table import Table

Progress = Callable[[str, int, int | None], None]

# Where no terminal says how wide it is, rows are as long as what they hold: what reads them may search for any of it.
_PIPE_WIDTH = 10_000
_QUIET_SECONDS = 10.0


@dataclass(frozen=True)
class Terminal:
    """The streams of one call.

    Attributes:
        out: where the result goes.
        err: where everything else goes.
        verbosity: 0 for progress and errors, 1 for what libraries print as well, -1 for errors alone.
    """

    out: TextIO
    err: TextIO
    verbosity: int = 0

    def console(self) -> Console:
        """For results."""
        return Console(
            file=self.out, width=None if self.out.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=False
        )

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Tells the user how far it is: a bar on a terminal, plain lines elsewhere."""
        if self.verbosity < 0:
            yield lambda step, done, of: None
        elif self.err.isatty():
            yield from self._bar()
        else:
            yield _Lines(self.err)

    def say(self, text: str) -> None:
        """One line to stderr, unless only errors are wanted."""
        if self.verbosity >= 0:
            print(f"tfq: {text}", file=self.err, flush=True)

    def _bar(self) -> Iterator[Progress]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(file=self.err)) as bars:
            tasks: dict[str, object] = {}

            def show(step: str, done: int, of: int | None) -> None:
                if step not in tasks:
                    tasks[step] = bars.add_task(step, total=of)
                bars.update(tasks[step], completed=done, total=of)  # type: ignore[arg-type]

            yield show


class _Lines:
    """Progress as lines: one when a step begins to count, one when it ends, and one every ten seconds between."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._step, self._said = "", 0.0

    def __call__(self, step: str, done: int, of: int | None) -> None:
        now = time.monotonic()
        if step == self._step and done != of and now - self._said < _QUIET_SECONDS:
            return
        self._step, self._said = step, now
        print(f"tfq: {step} {done}{'' if of is None else f'/{of}'}", file=self._stream, flush=True)


def table(*columns: str, title: str | None = None, left: int = 1) -> Table:
    """A plain table whose first `left` columns are words and the others figures. A narrow terminal folds words."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for i, name in enumerate(columns):
        made.add_column(name, justify="left" if i < left else "right", no_wrap=i >= left, overflow="fold")
    return made


@contextmanager
def own_streams(verbosity: int) -> Iterator[Terminal]:
    """Takes stdout and stderr away from libraries, native ones too, for the length of the block.

    What they print goes to stderr with verbosity 1, else nowhere: stdout holds the result alone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.dup(1), "w", encoding="utf-8") as out, open(os.dup(2), "w", encoding="utf-8") as err:
        saved = os.dup(1), os.dup(2)
        sink = os.dup(2) if verbosity > 0 else os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.close(sink)
        handler = logging.StreamHandler(err)
        handler.setFormatter(logging.Formatter("tfq: %(message)s"))
        loggers = [logging.getLogger(name) for name in ("tfq_pipeline", "android_bench")]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO if verbosity > 0 else logging.WARNING)
        try:
            yield Terminal(out, err, verbosity)
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            for target, source in enumerate(saved, start=1):
                os.dup2(source, target)
                os.close(source)
