// GEMM of floating-point rows and integer weights, one output at a time, straight from the definition.
#include <algorithm>

#include "delegates/int4/kernels/reference/scaled_weights_reference.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4;

template <int32_t bits>
void Run(const GemmShape& shape, const FloatGemmTile& tile) {
  const ScaledReader<bits> weights(shape, tile.packed);
  for (int32_t m = 0; m < tile.m; ++m) {
    for (int32_t n = tile.n_begin; n < tile.n_end; ++n) {
      double sum = static_cast<double>(weights.bias[n]);
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const float* row = tile.rows[tap * kMr + m];
        const size_t first = (size_t(n) * shape.taps + tap) * shape.channels;
        for (int32_t c = 0; c < shape.channels; ++c) {
          sum += static_cast<double>(row[c]) * weights.ScaleOf(n, c) * ValueAt(weights.values, first + c);
        }
      }
      const float value = static_cast<float>(sum);
      tile.out[m * tile.out_stride + (n - tile.n_begin)] = std::min(std::max(value, tile.stage.min), tile.stage.max);
    }
  }
}

}  // namespace

const FloatGemmKernel gemm_f32_qs4cw_4x1c1_reference = {
    "gemm_f32_qs4cw_4x1c1_reference",
    CpuTier::kReference,
    kQs4cw,
    kMr,
    1,
    1,
    PackedScaledBytes<4>,
    PackScaled<4>,
    Run<4>,
};

const FloatGemmKernel gemm_f32_qs8cw_4x1c1_reference = {
    "gemm_f32_qs8cw_4x1c1_reference",
    CpuTier::kReference,
    kQs8cw,
    kMr,
    1,
    1,
    PackedScaledBytes<8>,
    PackScaled<8>,
    Run<8>,
};

const FloatGemmKernel gemm_f32_qs4b_4x1c1_reference = {
    "gemm_f32_qs4b_4x1c1_reference", CpuTier::kReference, kQs4b, kMr, 1, 1, PackedScaledBytes<4>, PackScaled<4>, Run<4>,
};

}  // namespace tfq::int4
