// GEMM between 16-bit activations, one output at a time, straight from the definition, for weights of either width.
#include <cstring>

#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_stage.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;

size_t ChannelBytes(const GemmShape& shape) { return sizeof(WideChannel) * shape.n; }

template <int32_t bits>
size_t WeightBytes(const GemmShape& shape) {
  return ValueBytes(size_t(shape.n) * shape.taps * shape.channels, bits);
}

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(ChannelBytes(shape) + WeightBytes<bits>(shape), kPackedAlignment);
}

template <int32_t bits>
void Pack(const GemmShape& shape, const WideWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  std::memcpy(packed, source.channels, ChannelBytes(shape));
  std::memcpy(static_cast<uint8_t*>(packed) + ChannelBytes(shape), source.values.bytes, WeightBytes<bits>(shape));
}

template <int32_t bits>
void Run(const GemmShape& shape, const WideGemmTile& tile) {
  const WideChannel* channels = static_cast<const WideChannel*>(tile.packed);
  const WeightValues values = {static_cast<const uint8_t*>(tile.packed) + ChannelBytes(shape), bits};
  for (int32_t m = 0; m < tile.m; ++m) {
    for (int32_t n = tile.n_begin; n < tile.n_end; ++n) {
      int64_t sum = 0;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int16_t* row = tile.rows[tap * kMr + m];
        const size_t weights = (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t c = 0; c < shape.channels; ++c) sum += row[c] * ValueAt(values, weights + c);
      }
      ApplyWideStage(&sum, channels + n, 1, tile.stage, tile.out + m * tile.out_stride + (n - tile.n_begin));
    }
  }
}

}  // namespace

const WideGemmKernel gemm_qs16_qs4cw_4x1c1_reference = {
    "gemm_qs16_qs4cw_4x1c1_reference", CpuTier::kReference, kQs4cw, kMr, 1, 1, PackedBytes<4>, Pack<4>, Run<4>,
};

const WideGemmKernel gemm_qs16_qs8cw_4x1c1_reference = {
    "gemm_qs16_qs8cw_4x1c1_reference", CpuTier::kReference, kQs8cw, kMr, 1, 1, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
