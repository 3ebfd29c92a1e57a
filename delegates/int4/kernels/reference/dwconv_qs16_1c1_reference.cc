// Depthwise convolution between 16-bit activations, one output at a time, straight from the definition, for weights of
// either width.
#include <cstring>

#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_stage.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

size_t ChannelBytes(const DepthwiseShape& shape) { return sizeof(WideChannel) * shape.channels; }

template <int32_t bits>
size_t WeightBytes(const DepthwiseShape& shape) {
  return ValueBytes(size_t(shape.taps) * shape.channels, bits);
}

template <int32_t bits>
size_t PackedBytes(const DepthwiseShape& shape) {
  return RoundUp(ChannelBytes(shape) + WeightBytes<bits>(shape), kPackedAlignment);
}

template <int32_t bits>
void Pack(const DepthwiseShape& shape, const WideWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  std::memcpy(packed, source.channels, ChannelBytes(shape));
  std::memcpy(static_cast<uint8_t*>(packed) + ChannelBytes(shape), source.values.bytes, WeightBytes<bits>(shape));
}

template <int32_t bits>
void Run(const DepthwiseShape& shape, const WideDepthwiseTile& tile) {
  const WideChannel* channels = static_cast<const WideChannel*>(tile.packed);
  const WeightValues values = {static_cast<const uint8_t*>(tile.packed) + ChannelBytes(shape), bits};
  for (int32_t p = 0; p < tile.pixels; ++p) {
    for (int32_t c = 0; c < shape.channels; ++c) {
      int64_t sum = 0;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        sum += tile.rows[size_t(p) * shape.taps + tap][c] * ValueAt(values, size_t(tap) * shape.channels + c);
      }
      ApplyWideStage(&sum, channels + c, 1, tile.stage, tile.out + p * tile.out_stride + c);
    }
  }
}

}  // namespace

const WideDepthwiseKernel dwconv_qs16_qs4cw_1c1_reference = {
    "dwconv_qs16_qs4cw_1c1_reference", CpuTier::kReference, kQs4cw, PackedBytes<4>, Pack<4>, Run<4>,
};

const WideDepthwiseKernel dwconv_qs16_qs8cw_1c1_reference = {
    "dwconv_qs16_qs8cw_1c1_reference", CpuTier::kReference, kQs8cw, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
