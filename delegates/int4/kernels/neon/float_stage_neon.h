// From the sums of a tile to floating-point outputs, on NEON: scales, zero points, bias and clamp.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_FLOAT_STAGE_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_FLOAT_STAGE_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

// Writes the first `count` (1..4) values.
static inline void StorePartNeon(float* to, float32x4_t values, int32_t count) {
  if (count >= 4) {
    vst1q_f32(to, values);
    return;
  }
  if (count >= 2) vst1_f32(to, vget_low_f32(values));
  if (count == 1) vst1q_lane_f32(to, values, 0);
  if (count == 3) vst1q_lane_f32(to + 2, values, 2);
}

// Writes row m of the tile, its first `columns` outputs: the real sums of 4 * kVectors channels times the row's scale,
// and the bias.
template <int kVectors>
static inline void StoreRealsNeon(const float32x4_t (&sums)[kVectors], const DynamicGemmTile& tile, int m,
                                  const float* bias, int32_t columns, float* out) {
  const float32x4_t min = vdupq_n_f32(tile.stage.min), max = vdupq_n_f32(tile.stage.max);
  out += m * tile.out_stride;
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    if (columns <= 4 * v) break;
    const float32x4_t value = vfmaq_n_f32(vld1q_f32(bias + 4 * v), sums[v], tile.stage.rows[m].scale);
    StorePartNeon(out + 4 * v, vminq_f32(vmaxq_f32(value, min), max), columns - 4 * v);
  }
}

// A scale for each output channel: `sums` are those of the rows' integers and the weights of 4 * kVectors channels,
// whose section is `section`. `columns` of the channels are there; the outputs of the first row begin at `out`.
template <int kRows, int kVectors>
static inline void StoreChannelsNeon(const int32x4_t (&sums)[kRows][kVectors], const DynamicGemmTile& tile,
                                     const ScaledSection& section, int32_t columns, float* out) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    if (m >= tile.m) break;
    const int32x4_t zero_point = vdupq_n_s32(tile.stage.rows[m].zero_point);
    float32x4_t reals[kVectors];
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int32x4_t sum = vmlsq_s32(sums[m][v], vld1q_s32(section.weight_sum + 4 * v), zero_point);
      reals[v] = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(section.scale + 4 * v));
    }
    StoreRealsNeon(reals, tile, m, section.bias, columns, out);
  }
}

// A scale for each block of inputs: `sums` took up each block's integers with its scale.
template <int kRows, int kVectors>
static inline void StoreBlocksNeon(const float32x4_t (&sums)[kRows][kVectors], const DynamicGemmTile& tile,
                                   const ScaledSection& section, int32_t columns, float* out) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    if (m >= tile.m) break;
    const float32x4_t zero_point = vdupq_n_f32(static_cast<float>(tile.stage.rows[m].zero_point));
    float32x4_t reals[kVectors];
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      reals[v] = vfmsq_f32(sums[m][v], vld1q_f32(section.scaled_weight_sum + 4 * v), zero_point);
    }
    StoreRealsNeon(reals, tile, m, section.bias, columns, out);
  }
}

// Adds the integer sums of a block of inputs, each times its channel's scale of that block.
template <int kRows, int kVectors>
static inline void AddBlockNeon(const int32x4_t (&block)[kRows][kVectors], const float* scale,
                                float32x4_t (&sums)[kRows][kVectors]) {
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const float32x4_t factor = vld1q_f32(scale + 4 * v);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) sums[m][v] = vfmaq_f32(sums[m][v], vcvtq_f32_s32(block[m][v]), factor);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_FLOAT_STAGE_NEON_H_
