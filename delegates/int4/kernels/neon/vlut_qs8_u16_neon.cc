// Sixteen table look-ups at a time: four TBL of 64 entries each; an index outside a quarter gives 0 there.
#include <arm_neon.h>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kQuarters = 4;
constexpr int32_t kQuarter = 64;

void Run(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  uint8x16x4_t quarters[kQuarters];
  for (int32_t i = 0; i < kQuarters; ++i) {
    for (int32_t j = 0; j < 4; ++j) {
      quarters[i].val[j] = vreinterpretq_u8_s8(vld1q_s8(table + i * kQuarter + j * 16));
    }
  }
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(vld1q_s8(in + i)), vdupq_n_u8(128));
    uint8x16_t value = vqtbl4q_u8(quarters[0], index);
    for (int32_t j = 1; j < kQuarters; ++j) {
      index = vsubq_u8(index, vdupq_n_u8(kQuarter));
      value = vqtbx4q_u8(value, quarters[j], index);
    }
    vst1q_s8(out + i, vreinterpretq_s8_u8(value));
  }
  for (; i < count; ++i) out[i] = table[in[i] + 128];
}

}  // namespace

const LookupKernel vlut_qs8_u16_neon = {"vlut_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
