// GEMM, one output at a time, straight from the definition, for weights of either width.
#include <cstring>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;

size_t Values(const GemmShape& shape) { return size_t(shape.n) * shape.taps * shape.channels; }

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(ChannelSectionBytes(shape.n) + ValueBytes(Values(shape), bits), kPackedAlignment);
}

template <int32_t bits>
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  const size_t depth = size_t(shape.taps) * shape.channels;
  std::memset(packed, 0, PackedBytes<bits>(shape));
  int32_t* section = static_cast<int32_t*>(packed);
  for (int32_t n = 0; n < shape.n; ++n) {
    const int32_t sum = SumOfWeights(source.values, n * depth, depth, 1);
    int32_t channel[3];
    WriteChannelSection(source, n, n + 1, 1, source.input_zero_point, &sum, channel);
    for (int32_t i = 0; i < 3; ++i) section[i * shape.n + n] = channel[i];
  }
  std::memcpy(static_cast<uint8_t*>(packed) + ChannelSectionBytes(shape.n), source.values.bytes,
              ValueBytes(Values(shape), bits));
}

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  const int32_t* bias = static_cast<const int32_t*>(tile.packed);
  const int32_t* multiplier = bias + shape.n;
  const int32_t* shift = multiplier + shape.n;
  const WeightValues values = {static_cast<const uint8_t*>(tile.packed) + ChannelSectionBytes(shape.n), bits};
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  for (int32_t m = 0; m < tile.m; ++m) {
    for (int32_t n = tile.n_begin; n < tile.n_end; ++n) {
      int32_t sum = bias[n];
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int8_t* row = tile.rows[tap * kMr + m];
        const size_t weights = (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t c = 0; c < shape.channels; ++c) {
          sum = WrappingAdd(sum, row[c] * ValueAt(values, weights + c));
        }
      }
      tile.out[m * tile.out_stride + (n - tile.n_begin)] =
          ApplyOutputStage(sum, multiplier[n], shift[n], n >= ties_away_begin, tile.stage);
    }
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_4x1c1_reference = {
    "gemm_qs8_qs4cw_4x1c1_reference", CpuTier::kReference, kQs4cw, kMr, 1, 1, PackedBytes<4>, Pack<4>, Run<4>,
};

const GemmKernel gemm_qs8_qs8cw_4x1c1_reference = {
    "gemm_qs8_qs8cw_4x1c1_reference", CpuTier::kReference, kQs8cw, kMr, 1, 1, PackedBytes<8>, Pack<8>, Run<8>,
};

}  // namespace tfq::int4
