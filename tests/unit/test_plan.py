"""Plans save, load and compare without loss."""

import numpy as np
import pytest

from tfq_pipeline.errors import BadInput
from tfq_pipeline.numerics.affine import from_range
from tfq_pipeline.plan import FLOAT, Plan, TensorPlan, compare


def sample() -> Plan:
    affine = from_range(np.array([-1.0, -2.0]), np.array([0.5, 3.0]), 4, symmetric=True, narrow=True, axis=0)
    values = np.array([[1, -7], [3, 0]], np.int8)
    weights = {"conv": TensorPlan(4, "uniform", "channel", affine, values), "last": FLOAT}
    return Plan(
        weights,
        {"conv": TensorPlan(8, affine=from_range(-0.1, 5.0, 8, symmetric=False))},
        frozenset({"last"}),
        {"last": "skipped"},
    )


def test_a_plan_comes_back_from_its_file(tmp_path):
    sample().save(tmp_path / "plan.npz")
    back = Plan.load(tmp_path / "plan.npz")
    assert compare(sample(), back) == ()
    assert back.reasons == {"last": "skipped"}
    assert back.floats == {"last"}
    np.testing.assert_array_equal(back.weights["conv"].values, [[1, -7], [3, 0]])
    assert list(tmp_path.iterdir()) == [tmp_path / "plan.npz"]


def test_comparison_names_what_differs():
    other = sample().with_activations({"conv": TensorPlan(8, affine=from_range(-0.1, 6.0, 8, symmetric=False))})
    (found,) = compare(sample(), other)
    assert (found.kind, found.layer) == ("activations", "conv")
    assert found.left != found.right
    missing = Plan({}, sample().activations)
    assert [d.right for d in compare(sample(), missing)] == ["not planned", "not planned"]


@pytest.mark.parametrize("content", [b"", b"not a zip", None])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "plan.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"plan\.npz: "):
        Plan.load(path)
