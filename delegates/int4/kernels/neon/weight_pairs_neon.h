// Weights of two groups of output channels from memory to registers, for the kernels on SDOT and SMMLA.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_WEIGHT_PAIRS_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_WEIGHT_PAIRS_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace tfq::int4 {

enum class WeightForm {
  kBytes,     // 8 bits: sixteen weights of the first channels, sixteen of the second
  kJoined,    // 4 bits, joined as packing/joined_nibbles.h has it
  kSeparate,  // 4 bits, a nibble each
};

constexpr size_t BytesOfPair(WeightForm form) { return form == WeightForm::kBytes ? 32 : 16; }

// Of joined weights, `low` is the whole byte.
struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

template <WeightForm form>
static inline WeightPair LoadWeights(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  if (form == WeightForm::kBytes) return {bytes, vreinterpretq_s8_u8(vld1q_u8(from + 16))};
  if (form == WeightForm::kJoined) return {bytes, vrshrq_n_s8(bytes, 4)};
  return {vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), vshrq_n_s8(bytes, 4)};
}

// The sums of low weights from sums of whole bytes.
template <WeightForm form>
static inline int32x4_t LowSums(int32x4_t sums, int32x4_t high) {
  return form == WeightForm::kJoined ? vmlsq_s32(sums, high, vdupq_n_s32(16)) : sums;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_WEIGHT_PAIRS_NEON_H_
