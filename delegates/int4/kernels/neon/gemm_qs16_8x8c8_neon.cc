// Matrix products between 16-bit activations on NEON: SMLAL and SMLAL2, a value of a row against eight output channels.
// Before it gives out registers GCC's scheduler loads all rows at once, and has none left for the sums. It stands
// before what is included, for GCC inlines only what is compiled alike.
#if !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#include <arm_neon.h>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/neon/wide_stage_neon.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_gemm.h"

namespace tfq::int4 {
namespace {

struct Neon {
  using Sums = int32x4_t;
  using Row = int16x8_t;
  struct Weights {
    int16x8_t of[8];
  };
  static constexpr int32_t kLanes = 4;
  static constexpr int32_t kRows = 8;
  static constexpr int32_t kTogether = 4;  // so that eight instructions stand between two that add to the same sum
  static constexpr int32_t kKr = 8;
  static constexpr int32_t kSteps = kKr;
  static constexpr auto kApplyStage = ApplyWideRowsNeon;

  static int32x4_t Zero() { return vdupq_n_s32(0); }
  static int16x8_t LoadRow(const int16_t* from) { return vld1q_s16(from); }
  static int16x8_t LoadPart(const int16_t* from, int32_t count) { return LoadWidePartNeon(from, count); }
  template <int kStep>
  static void Add(const Weights& weights, int16x8_t row, int32x4_t (&sums)[2]) {
    sums[0] = vmlal_laneq_s16(sums[0], vget_low_s16(weights.of[kStep]), row, kStep);
    sums[1] = vmlal_high_laneq_s16(sums[1], weights.of[kStep], row, kStep);
  }

  static int32_t PlaceOf(int32_t n, int32_t k) { return k * 2 * kLanes + n; }
  template <int32_t bits>
  static Weights Load(const uint8_t* from) {
    constexpr int kBytes = 8 * bits;
    Weights weights;
    TFQ_UNROLL
    for (int i = 0; i < kBytes / 16; ++i) {
      const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from + 16 * i));
      if (bits == 8) {
        Widen(bytes, weights.of + 2 * i);
      } else {
        Widen(vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), weights.of + 2 * i);
        Widen(vshrq_n_s8(bytes, 4), weights.of + 4 + 2 * i);
      }
    }
    return weights;
  }
  static void Widen(int8x16_t bytes, int16x8_t* to) {
    to[0] = vmovl_s8(vget_low_s8(bytes));
    to[1] = vmovl_high_s8(bytes);
  }

  static void AddTo(int32x4_t sums, int64_t* wide) {
    vst1q_s64(wide, vaddw_s32(vld1q_s64(wide), vget_low_s32(sums)));
    vst1q_s64(wide + 2, vaddw_high_s32(vld1q_s64(wide + 2), sums));
  }
};

}  // namespace

const WideGemmKernel gemm_qs16_qs4cw_8x8c8_neon =
    WideGemm<Neon, 4>::Kernel("gemm_qs16_qs4cw_8x8c8_neon", CpuTier::kNeon);

const WideGemmKernel gemm_qs16_qs8cw_8x8c8_neon =
    WideGemm<Neon, 8>::Kernel("gemm_qs16_qs8cw_8x8c8_neon", CpuTier::kNeon);

}  // namespace tfq::int4
