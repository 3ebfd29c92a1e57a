"""An experiment is data: what is run, with what, how often. Running it is the session's part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tfq_pipeline.errors import BadInput

RUNTIMES = ("litert", "tflite")


@dataclass(frozen=True)
class Settings:
    """How a model is run; names and defaults are benchmark_model's where it has them.

    Attributes:
        threads: threads of the runtime and of the delegate.
        runs: least number of measured runs.
        warmup: runs before them.
        min_secs: least time of the measured runs together, in seconds.
        max_secs: time after which no further run begins, in seconds.
        run_delay: pause between runs in seconds; none when not positive.
        seed: of the random inputs.
        use_xnnpack: whether the runtime's own XNNPACK delegate takes what the delegate leaves.
        profile: whether a second, profiled process measures times by op.
    """

    threads: int = 1
    runs: int = 50
    warmup: int = 1
    min_secs: float = 1.0
    max_secs: float = 150.0
    run_delay: float = -1.0
    seed: int = 0
    use_xnnpack: bool = True
    profile: bool = False

    def __post_init__(self) -> None:
        for name, least in (("threads", 1), ("runs", 1), ("warmup", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise BadInput(f"{name}={getattr(self, name)}: the least is {least}; give more")
        if not 0 <= self.min_secs <= self.max_secs:
            raise BadInput(f"min_secs={self.min_secs:g}, max_secs={self.max_secs:g}: give 0 <= min_secs <= max_secs")

    def flags(self) -> list[str]:
        """The runner's flags."""
        return [
            f"--num_threads={self.threads}",
            f"--num_runs={self.runs}",
            f"--warmup_runs={self.warmup}",
            f"--min_secs={self.min_secs}",
            f"--max_secs={self.max_secs}",
            f"--run_delay={self.run_delay}",
            f"--seed={self.seed}",
            f"--use_xnnpack={str(self.use_xnnpack).lower()}",
        ]

    def time_limit(self) -> float:
        """Seconds after which a run counts as hung: what was asked for, doubled, with room for loading."""
        return 2 * self.max_secs + 120


@dataclass(frozen=True)
class Delegate:
    """A delegate by name, with its options.

    Attributes:
        name: ``int4`` for the project's own, or the path of an external delegate's library for the device.
        options: keys and values that the plugin is given.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, value in self.options.items():
            if not key or set(key) & set(":;") or ";" in value:
                raise BadInput(f"delegate option '{key}:{value}': a key holds no ':' or ';', a value no ';'")

    @property
    def own(self) -> bool:
        """Whether it is the project's own, which reports what it took."""
        return self.name == "int4"


@dataclass(frozen=True)
class Experiment:
    """One model, once on one device.

    Attributes:
        runtime: ``litert`` or ``tflite``.
        runtime_library: the library to open instead of the one that belongs to the runtime.
        allow_undelegated: whether a delegate that takes nothing is no error.
    """

    model: Path
    delegate: Delegate | None = None
    settings: Settings = Settings()
    runtime: str = "litert"
    runtime_library: Path | None = None
    allow_undelegated: bool = False

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise BadInput(f"runtime '{self.runtime}': not known; give {' or '.join(RUNTIMES)}")
        if self.runtime == "tflite" and self.runtime_library is None:
            raise BadInput("runtime 'tflite': name its library with --runtime_library, such as libtensorflow-lite.so")
        if not self.model.is_file():
            found = "is no file" if self.model.exists() else "no such file"
            raise BadInput(f"{self.model}: {found}; give a .tflite model")


def delegate_options(text: str) -> dict[str, str]:
    """Reads ``key:value;key:value``; a value may hold colons.

    Raises:
        BadInput: an entry that is not key and value.
    """
    options = {}
    for entry in filter(None, text.split(";")):
        key, colon, value = entry.partition(":")
        if not colon or not key:
            raise BadInput(f"--external_delegate_options: '{entry}' is not key:value; write 'key:value;key:value'")
        options[key] = value
    return options
