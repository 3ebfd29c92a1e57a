// Weights of a node, cut into the blocks that kernels pack.
#ifndef TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_
#define TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "delegates/int4/aligned_buffer.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// The format and the values of a node's weights.
WeightFormat FormatOf(const NodeView& view);
WeightValues ValuesOf(const NodeView& view);

// `count` values from number `begin` on, packed as their source is.
std::vector<uint8_t> SliceValues(const WeightValues& values, size_t begin, size_t count);

// Packed weights of one matrix or filter, of `Kernel` GemmKernel or DepthwiseKernel with its shape type.
template <typename Kernel, typename Shape>
struct PackedWeights {
  const Kernel* kernel = nullptr;
  Shape shape = {};
  OutputStage stage = {};
  AlignedBuffer memory;

  // Packs channels first_channel.. of the node, whose weights are `values`. False when there is no memory.
  bool Pack(const Kernel* chosen, const Shape& wanted, const OutputStage& output, const NodeView& view,
            const ChannelScales& scales, const WeightValues& values, int32_t first_channel) {
    kernel = chosen;
    shape = wanted;
    stage = output;
    if (!memory.Allocate(kernel->packed_bytes(shape))) return false;
    const int32_t* bias =
        view.bias() == nullptr ? nullptr : static_cast<const int32_t*>(view.bias()->data) + first_channel;
    const WeightSource source = {values, bias, scales.multiplier.data() + first_channel,
                                 scales.shift.data() + first_channel, view.input()->params.zero_point};
    kernel->pack(shape, source, memory.data());
    return true;
  }
};

using PackedGemm = PackedWeights<GemmKernel, GemmShape>;
using PackedDepthwise = PackedWeights<DepthwiseKernel, DepthwiseShape>;

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_
