"""A run that was killed goes on, and ends where one that was not ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.data import Data, random_order
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import compare
from tfq_pipeline.train.checkpoint import Checkpoint, writable_folder
from tfq_pipeline.train.distillation import Distillation
from tfq_pipeline.train.learned_bits import LearnedBits
from tfq_pipeline.train.qat import Training, qat

ROOT = Path(__file__).parents[3]
EPOCHS, STEPS = 4, 3
BITS = LearnedBits((2, 3, 4, 8), "bits", 0.9)


def run(checkpoints, kill_at=None, learning_rate=1e-2, bits=None):
    """Trains; the process kills itself after a step, as the kernel would."""
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    fixed = images(96, batch=32)
    whole = list(fixed)

    def batches(number):
        return iter([whole[i] for i in random_order(0)(len(whole), number)])

    data = Data("mixed", fixed.open, 96, reopen=batches)
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    plan = quantize(graph, calibrate(graph, fixed, "minmax", 96), lambda *_: asked)
    options = Training(
        EPOCHS, 32, learning_rate, weights="lsq", activations="lsq_plus", distillation=Distillation(0.5), bits=bits
    )
    seen = []

    def progress(done, of):
        seen.append(done)
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return qat(graph, plan, data, options, progress, checkpoints=checkpoints), seen


@pytest.mark.parametrize(("kill_at", "bits"), [(2 * STEPS + 2, None), (3 * STEPS + 2, BITS)])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, kill_at, bits):
    module = "tests.unit.train.test_checkpoint"
    options = f"Path({str(tmp_path)!r}), {kill_at}, bits={bits!r}"
    code = f"from pathlib import Path; from {module} import LearnedBits, run; run({options})"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]
    resumed, seen = run(tmp_path, bits=bits)
    assert seen == list(range(kill_at // STEPS * STEPS + 1, EPOCHS * STEPS + 1))
    straight, _ = run(None, bits=bits)
    assert resumed.history == straight.history
    assert compare(resumed.plan, straight.plan) == ()
    for a, b in zip(resumed.graph.linear_ops(), straight.graph.linear_ops(), strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_another_run_does_not_go_on_from_it(tmp_path):
    run(tmp_path)
    _, seen = run(tmp_path, learning_rate=2e-2)
    assert len(seen) == EPOCHS * STEPS
    assert len(list(tmp_path.iterdir())) == 2


def test_a_finished_run_is_there_at_once(tmp_path):
    first, _ = run(tmp_path)
    again, seen = run(tmp_path)
    assert seen == []
    assert compare(first.plan, again.plan) == ()
    assert first.history == again.history


def test_a_folder_that_is_none_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match=r"checkpoints .*file: cannot be written to .*; choose another folder"):
        writable_folder(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert list(writable_folder(tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 20, 200])
def test_a_damaged_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "run.npz"
    Checkpoint((np.arange(100.0),), 1, {"loss": [0.5]}).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"run\.npz: damaged; delete it"):
        Checkpoint.load(path)
