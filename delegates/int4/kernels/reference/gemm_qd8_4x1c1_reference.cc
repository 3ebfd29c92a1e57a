// GEMM of rows that were quantized at run time, one output at a time, straight from the definition.
#include <algorithm>
#include <cstring>

#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;

// float bias[n], float scale[n][blocks], then the values as they lie in the file.
size_t ParameterBytes(const GemmShape& shape) { return sizeof(float) * shape.n * (1 + BlocksOf(shape)); }

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(ParameterBytes(shape) + ValueBytes(size_t(shape.n) * shape.taps * shape.channels, bits),
                 kPackedAlignment);
}

template <int32_t bits>
void Pack(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  float* bias = static_cast<float*>(packed);
  float* scale = bias + shape.n;
  for (int32_t n = 0; n < shape.n; ++n) {
    bias[n] = source.bias == nullptr ? 0.0f : source.bias[n];
    for (size_t b = 0; b < BlocksOf(shape); ++b) *scale++ = ScaleAt(source, shape, n, b);
  }
  std::memcpy(scale, source.values.bytes, ValueBytes(size_t(shape.n) * shape.taps * shape.channels, bits));
}

// Reads what Pack() wrote.
template <int32_t bits>
struct Reader {
  Reader(const GemmShape& shape, const void* packed)
      : bias(static_cast<const float*>(packed)),
        scale(bias + shape.n),
        blocks(BlocksOf(shape)),
        block(shape.block == 0 ? shape.channels : shape.block),
        values{static_cast<const uint8_t*>(packed) + ParameterBytes(shape), bits} {}

  double ScaleOf(size_t n, int32_t channel) const { return static_cast<double>(scale[n * blocks + channel / block]); }

  const float* bias;
  const float* scale;
  size_t blocks;
  int32_t block;
  WeightValues values;
};

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  const Reader<bits> weights(shape, tile.packed);
  for (int32_t m = 0; m < tile.m; ++m) {
    const RowQuantization& row = tile.stage.rows[m];
    for (int32_t n = tile.n_begin; n < tile.n_end; ++n) {
      double sum = 0;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const size_t first = (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t c = 0; c < shape.channels; ++c) {
          const int32_t a = tile.rows[tap * kMr + m][c] - row.zero_point;
          sum += weights.ScaleOf(n, c) * (a * ValueAt(weights.values, first + c));
        }
      }
      const float value =
          static_cast<float>(sum * static_cast<double>(row.scale) + static_cast<double>(weights.bias[n]));
      tile.out[m * tile.out_stride + (n - tile.n_begin)] = std::min(std::max(value, tile.stage.min), tile.stage.max);
    }
  }
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_4x1c1_reference = {
    "gemm_qd8_qs4cw_4x1c1_reference", CpuTier::kReference, kQs4cw, kMr, 1, 1, PackedBytes<4>, Pack<4>, Run<4>,
};

const DynamicGemmKernel gemm_qd8_qs8cw_4x1c1_reference = {
    "gemm_qd8_qs8cw_4x1c1_reference", CpuTier::kReference, kQs8cw, kMr, 1, 1, PackedBytes<8>, Pack<8>, Run<8>,
};

const DynamicGemmKernel gemm_qd8_qs4b_4x1c1_reference = {
    "gemm_qd8_qs4b_4x1c1_reference", CpuTier::kReference, kQs4b, kMr, 1, 1, PackedBytes<4>, Pack<4>, Run<4>,
};

}  // namespace tfq::int4
