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

// The format and the values of a node's weights, and what there is to compute with them, pixels of the input for rows.
WeightFormat FormatOf(const NodeView& view);
GemmExtent ExtentOf(const NodeView& view);
WeightValues ValuesOf(const NodeView& view);

// `rows` rows of `depth` values from number `begin` on, each followed by zeros up to `padded_depth`; packed as their
// source is.
std::vector<uint8_t> CopyRows(const WeightValues& values, size_t begin, size_t rows, size_t depth, size_t padded_depth);

// Packed weights of one matrix or filter, with the kernel that reads them.
template <typename Kernel, typename Shape>
struct PackedWeights {
  const Kernel* kernel = nullptr;
  Shape shape = {};
  typename Kernel::Stage stage = {};
  AlignedBuffer memory;

  // False when there is no memory.
  bool Pack(const Kernel* chosen, const Shape& wanted, const typename Kernel::Stage& output,
            const typename Kernel::Weights& weights) {
    kernel = chosen;
    shape = wanted;
    stage = output;
    if (!memory.Allocate(kernel->packed_bytes(shape))) return false;
    kernel->pack(shape, weights, memory.data());
    return true;
  }
};

template <typename Kernel>
using PackedMatrix = PackedWeights<Kernel, GemmShape>;
using PackedGemm = PackedMatrix<GemmKernel>;
using PackedDepthwise = PackedWeights<DepthwiseKernel, DepthwiseShape>;

// Output channels first_channel.. of a static node, whose weights are `values`.
WeightSource StaticWeights(const NodeView& view, const ChannelScales& scales, const WeightValues& values,
                           int32_t first_channel = 0);

// All output channels of a node whose scales stay floating point. `channel_scales` holds what the result points to.
ScaledWeights FloatScaledWeights(const NodeView& view, std::vector<float>* channel_scales);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_
