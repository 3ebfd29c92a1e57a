// Weights of a node, cut into the blocks that kernels pack.
#ifndef TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_
#define TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "delegates/int4/aligned_buffer.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/options.h"
#include "delegates/int4/packing/cache.h"
#include "delegates/int4/support.h"

namespace tfq::int4 {

// The format and the values of a node's weights, and what there is to compute with them, pixels of the input for rows.
WeightFormat FormatOf(const NodeView& view);
GemmExtent ExtentOf(const NodeView& view);
WeightValues ValuesOf(const NodeView& view);

// `rows` rows of `depth` values from number `begin` on, each followed by zeros up to `padded_depth`; packed as their
// source is.
std::vector<uint8_t> CopyRows(const WeightValues& values, size_t begin, size_t rows, size_t depth, size_t padded_depth);

// The hash of everything that packing reads.
CacheKey KeyOf(const char* kernel, const GemmShape& shape, const WeightSource& weights);
CacheKey KeyOf(const char* kernel, const GemmShape& shape, const ScaledWeights& weights);
CacheKey KeyOf(const char* kernel, const GemmShape& shape, const WideWeights& weights);
CacheKey KeyOf(const char* kernel, const DepthwiseShape& shape, const WeightSource& weights);
CacheKey KeyOf(const char* kernel, const DepthwiseShape& shape, const WideWeights& weights);

// Reads and writes the cache for a matrix or filter that is packed anew by `pack` where need be. Empty when there is no
// memory.
template <typename Pack>
PackedMemory PackThroughCache(const std::string& folder, const CacheKey& key, size_t size, const Pack& pack) {
  PackedMemory cached = MapCached(folder, key, size);
  if (cached.data() != nullptr) return cached;
  const PackedMemory packed = pack();
  if (packed.data() == nullptr || !StoreCached(folder, key, packed).empty()) return packed;
  cached = MapCached(folder, key, size);  // the pages that others share
  return cached.data() != nullptr ? cached : packed;
}

// Packed weights of one matrix or filter, with the kernel that reads them.
template <typename Kernel, typename Shape>
struct PackedWeights {
  const Kernel* kernel = nullptr;
  Shape shape = {};
  typename Kernel::Stage stage = {};
  PackedMemory memory;

  // False when there is no memory.
  bool Pack(const Options& options, const Kernel* chosen, const Shape& wanted, const typename Kernel::Stage& output,
            const typename Kernel::Weights& weights) {
    kernel = chosen;
    shape = wanted;
    stage = output;
    const size_t size = kernel->packed_bytes(shape);
    const auto pack = [&]() -> PackedMemory {
      const std::shared_ptr<AlignedBuffer> buffer = std::make_shared<AlignedBuffer>();
      if (!buffer->Allocate(size)) return {};
      kernel->pack(shape, weights, buffer->data());
      return {std::shared_ptr<const uint8_t>(buffer, buffer->data()), size};
    };
    memory = options.cache.empty() ? pack()
                                   : PackThroughCache(options.cache, KeyOf(kernel->name, shape, weights), size, pack);
    return memory.data() != nullptr;
  }
};

template <typename Kernel>
using PackedMatrix = PackedWeights<Kernel, GemmShape>;
using PackedGemm = PackedMatrix<GemmKernel>;
template <typename Kernel>
using PackedFilter = PackedWeights<Kernel, DepthwiseShape>;

// Output channels first_channel.. of a static node, whose weights are `values`.
WeightSource StaticWeights(const NodeView& view, const ChannelScales& scales, const WeightValues& values,
                           int32_t first_channel = 0);

// All output channels of a node whose scales stay floating point. `channel_scales` holds what the result points to.
ScaledWeights FloatScaledWeights(const NodeView& view, std::vector<float>* channel_scales);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_WEIGHTS_H_
