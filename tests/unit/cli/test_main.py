"""Finding the verb and its flags: one line for every misuse, before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Command
from tfq_pipeline.cli.main import VERBS

MISUSES = {
    "": "no verb; 'tfq --help' lists them",
    "quantise": "'quantise' is no verb; did you mean 'quantize'?",
    "frobnicate": "'frobnicate' is no verb; there are quantize, evaluate, inspect, benchmark, devices, recipes, report",
    "--json recipes": "--json: flags stand behind the verb; write 'tfq VERB --json'",
    "recipes --jsn": "--jsn: unknown flag of recipes; did you mean --json?",
    "recipes --seed=-1": "flag --seed=-1: -1 is not a non-negative integer; see 'tfq recipes --help'",
    "recipes --seed=x": "flag --seed=x: invalid literal for int() with base 10: 'x'; see 'tfq recipes --help'",
    "recipes --flagfile=none": "Unable to open flagfile: [Errno 2] No such file or directory: 'none'; see",
    "recipes a b": "tfq recipes takes one NAME, found 2 (a, b); see 'tfq recipes --help'",
    "recipes static_wi4_ai9": "recipe 'static_wi4_ai9': no built-in recipe; did you mean 'static_wi4_ai8'?",
    "recipes --schema a": "tfq recipes --schema takes no arguments, found a",
    "devices a": "tfq devices takes no arguments, found a; see 'tfq devices --help'",
    "inspect": "tfq inspect takes one .tflite file, found none; see 'tfq inspect --help'",
    "inspect none.tflite": "none.tflite: no such file; check the path",
    "evaluate none.tflite": "--data: missing; give labelled data, such as fashion_mnist or samples.npz",
    "evaluate none.tflite --data=fashion_mnist": "none.tflite: no such file; give a .keras, .h5, SavedModel or .tflite",
    "quantize": "tfq quantize takes one MODEL, found none; see 'tfq quantize --help'",
    "quantize none.keras": "--recipe: missing; give a recipe; 'tfq recipes' lists the built-in ones",
    "quantize none.keras --recipe=static_wi4_ai9": "did you mean 'static_wi4_ai8'?",
    "quantize none.keras --recipe=static_wi4_ai8": "--output: missing; give the .tflite to write",
    "quantize none.keras --recipe=static_wi4_ai8 --output=.": "--output=.: is a folder; name a file",
    "quantize none.keras --recipe=static_wi4_ai8 --output=a/b.tflite": "there is no folder a; make it first",
    "quantize none.keras --recipe=static_wi4_ai8 --output=o --report=README/x": "README is a file; name a folder",
    "quantize none.keras --recipe=static_wi4_ai8 --output=o.tflite": "none.keras: no such file; give a .keras, .h5, "
    "SavedModel or float .tflite",
    "quantize README --recipe=static_wi4_ai8 --output=o": "'calibrate' needs samples to calibrate with;",
    "quantize README --recipe=qat_wi4_ai8 --calibration=x:y --output=o": "needs labelled data to train on; give --tr",
    "quantize README --recipe=static_wi4_ai8 --output=o --data=no.npz": "no.npz: no such file; give an .npz with",
    "quantize README --recipe=static_wi4_ai8 --output=o --data=no": "no: no such file, folder or data set; give",
    "quantize README --recipe=static_wi4_ai8 --output=o --data=README": "README: is neither .npz nor a folder; give",
    "quantize README --target-drop=x": "flag --target_drop=x: could not convert string to float: 'x'; see",
    "quantize README --target-drop=-1": "flag --target_drop=-1: -1.0 is not a non-negative number; see",
    "benchmark": "tfq benchmark takes at least one .tflite file, found none; see 'tfq benchmark --help'",
    "benchmark none.tflite": "none.tflite: no such file; give a .tflite model",
    "benchmark README --num_run=3": "--num_run: unknown flag of benchmark; did you mean --num_runs?",
    "benchmark README --num_runs=0": "flag --num_runs=0: 0 is not a positive integer; see 'tfq benchmark --help'",
    "benchmark README --runtime=x": "flag --runtime=x: value should be one of <litert|tflite>; see",
    "report": "tfq report takes one RUN folder, found none; see 'tfq report --help'",
    "report none": "none/run.json: no such file; give a folder that 'tfq quantize --report' wrote",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one file in it."""
    (tmp_path / "README").write_text("hello")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "said"), MISUSES.items(), ids=lambda text: text[:60])
def test_misuse_is_one_line_with_exit_code_2(tfq: Command, folder: Path, arguments: str, said: str) -> None:
    done = tfq(*arguments.split())
    assert said in done.error(2)
    assert done.err.count("\n") == 1
    assert [file.name for file in folder.iterdir()] == ["README"]


def test_misuse_is_found_without_tensorflow() -> None:
    program = f"""
import sys
from tfq_pipeline.cli.main import main
codes = [main(line.split()) for line in {list(MISUSES)!r}]
heavy = [name for name in ("tensorflow", "keras", "tf_keras", "ai_edge_litert", "adbutils") if name in sys.modules]
print(set(codes), heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "{2} []", done.stdout + done.stderr


@pytest.mark.parametrize("spelling", ["--help", "-h", "--helpshort", "--helpfull"])
def test_help_by_any_of_absls_names(tfq: Command, spelling: str) -> None:
    done = tfq(spelling)
    assert done.code == 0
    assert all(f"\n  {verb} " in done.out for verb in VERBS)
    for verb in VERBS:
        helped = tfq(verb, spelling)
        assert (helped.code, helped.err) == (0, "")
        assert helped.out.startswith(f"tfq {verb}: {VERBS[verb]}\n\nusage: tfq {verb} ")
        assert all(f"\n  --{flag} " in helped.out for flag in ("json", "seed", "verbosity"))
        assert tfq("help", verb).out == helped.out


def test_version(tfq: Command) -> None:
    assert tfq("--version").out == "tfq 0.1.0\n"


def test_recipes_lists_shows_and_publishes(tfq: Command) -> None:
    listed = tfq("recipes", "--json").document()["recipes"]
    assert {"static_wi8_ai8", "static_wi4_ai8", "qat_wi8_ai8", "qat_wi4_ai8"} <= {entry["name"] for entry in listed}
    for entry in listed:
        assert tfq("recipes", entry["name"]).out.startswith("version: 1\n")
        assert tfq("recipes", entry["name"], "--json").document()["name"] == entry["name"]
        assert entry["description"] in tfq("recipes").out
    assert json.loads(tfq("recipes", "--schema").out) == tfq("recipes", "--schema", "--json").document()


def test_an_unforeseen_error_is_one_line_and_verbosity_adds_the_traceback(
    tfq: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: object) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("tfq_pipeline.tflite.inspect.inspect", broken)
    assert tfq("inspect", "README").error(3) == "ZeroDivisionError: first; a fault in tfq: --verbosity=1 shows where"
    assert "Traceback (most recent call last)" in tfq("inspect", "README", "--verbosity=1").err
