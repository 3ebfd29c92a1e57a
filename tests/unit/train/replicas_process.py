"""Training on two replicas against one, in a process that has two devices: they can be made before all else alone."""

import numpy as np
import tensorflow as tf

DEVICE = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(DEVICE, [tf.config.LogicalDeviceConfiguration()] * 2)

import tfq_pipeline as tfq  # noqa: E402
from tests.unit.train.test_trainer import DATA, kernels, start, train  # noqa: E402
from tfq_pipeline.lowering.lower import lower  # noqa: E402
from tfq_pipeline.lowering.reference import fake_quantized  # noqa: E402
from tfq_pipeline.lowering.verify import verify  # noqa: E402
from tfq_pipeline.passes.prune import Pruning  # noqa: E402
from tfq_pipeline.train.learned_bits import LearnedBits  # noqa: E402
from tfq_pipeline.train.pruning import Sparsification  # noqa: E402

ZEROS = Sparsification(Pruning("magnitude", 0.5), ("hidden",), end=1.0, every=1)
COMPARED = (
    {"activations": "lsq", "sparsification": ZEROS},
    {"activations": "pact", "bits": LearnedBits((2, 3, 4, 8), "bits", 0.9)},
)


def main() -> None:
    both = tfq.Trainer(strategy=tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]))
    first = [op.kernel for op in start()[0].linear_ops()]
    for options in COMPARED:
        # One step: later ones round differently where sums of floats differ in their last bit.
        alone = train(epochs=1, samples=32, momentum=1.0, **options)
        together = train(both, epochs=1, samples=32, momentum=1.0, **options)
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(kernels(together), first, strict=True))
        for a, b in zip(kernels(alone), kernels(together), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    trained = train(both, activations="moving_average", momentum=0.9)
    reference = fake_quantized(trained.graph, trained.plan)
    file = lower(trained.graph, trained.plan, "int8", "int8", {})
    assert verify(file, trained.graph, trained.plan, reference, DATA, require_integer=True).argmax_agreement > 0.97


if __name__ == "__main__":
    main()
