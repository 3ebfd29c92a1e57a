// Integer sums of matrix products by SMMLA (Cortex-X2, Neoverse V1), which multiplies eight channels of two rows with
// those of two output channels. Rows are brought together in pairs once for a tile, in the scratch memory. Of joined
// 4-bit weights (packing/joined_nibbles.h) one operand is the bytes as they lie in memory, and the other takes one
// instruction for eight pairs of rows.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_I8MM_GEMM_16X4C8_NEON_I8MM_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_I8MM_GEMM_16X4C8_NEON_I8MM_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/neon/weight_pairs_neon.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/packing/joined_nibbles.h"

namespace tfq::int4 {

constexpr int32_t kMr = 16;
constexpr int32_t kNr = 4;
constexpr int32_t kKr = 8;
constexpr size_t kPairBytes = 2 * kKr;  // two rows, eight channels

template <int32_t bits>
constexpr BlockLayout kLayout = {kNr, kKr, bits, 1, bits == 4 ? kJoinedFlagBytes : 0};

static inline size_t ScratchBytes(const GemmShape& shape) {
  return RoundUp(GroupsOf(kLayout<8>, shape) * kMr / 2 * kPairBytes, kPackedAlignment);
}

// Writes [group][pair of rows][row][channel of the group]; what a tap lacks to whole groups is zero.
template <int kPairs>
static void PairRows(const GemmShape& shape, const int8_t* const* rows, int8_t* to) {
  constexpr ptrdiff_t kStride = kPairs * kPairBytes;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    for (int pair = 0; pair < kPairs; ++pair) {
      const int8_t* first = rows[2 * pair];
      const int8_t* second = rows[2 * pair + 1];
      int8_t* out = to + pair * kPairBytes;
      int32_t c = 0;
      for (; c + 2 * kKr <= shape.channels; c += 2 * kKr, out += 2 * kStride) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(first + c)), b = vreinterpretq_s64_s8(vld1q_s8(second + c));
        vst1q_s8(out, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
        vst1q_s8(out + kStride, vreinterpretq_s8_s64(vzip2q_s64(a, b)));
      }
      for (; c < shape.channels; c += kKr, out += kStride) {
        const int32_t left = shape.channels - c < kKr ? shape.channels - c : kKr;
        vst1q_s8(out, vcombine_s8(LoadPartNeon(first + c, left), LoadPartNeon(second + c, left)));
      }
    }
    to += GroupsOfTap(kLayout<8>, shape) * kStride;
  }
}

// [row][output channel], of output channels 0, 1 and 2, 3.
static inline int32x4_t TwicePair(const int32_t* from) {
  return vreinterpretq_s32_s64(vld1q_dup_s64(reinterpret_cast<const int64_t*>(from)));
}

// Sums of 2 * kPairs rows over `groups` groups of one block; they begin with start[4].
template <WeightForm form, int kPairs>
static inline void SumPairs(const int8_t* a, size_t groups, const uint8_t* group, const int32_t* start,
                            int32x4_t (&sums)[2 * kPairs][1]) {
  int32x4_t low[kPairs], high[kPairs];
  const int32x4_t start_low = TwicePair(start), start_high = TwicePair(start + 2);
  TFQ_UNROLL
  for (int pair = 0; pair < kPairs; ++pair) {
    low[pair] = start_low;
    high[pair] = start_high;
  }
  for (; groups != 0; --groups, group += BytesOfPair(form), a += kPairs * kPairBytes) {
    const WeightPair weights = LoadWeights<form>(group);
    TFQ_UNROLL
    for (int pair = 0; pair < kPairs; ++pair) {
      const int8x16_t rows = vld1q_s8(a + pair * kPairBytes);
      low[pair] = vmmlaq_s32(low[pair], rows, weights.low);
      high[pair] = vmmlaq_s32(high[pair], rows, weights.high);
    }
  }
  TFQ_UNROLL
  for (int pair = 0; pair < kPairs; ++pair) {
    const int64x2_t first = vreinterpretq_s64_s32(LowSums<form>(low[pair], high[pair]));
    const int64x2_t second = vreinterpretq_s64_s32(high[pair]);
    sums[2 * pair][0] = vreinterpretq_s32_s64(vzip1q_s64(first, second));
    sums[2 * pair + 1][0] = vreinterpretq_s32_s64(vzip2q_s64(first, second));
  }
}

// The case that is rare, out of the way.
template <int kPairs>
static __attribute__((noinline)) void SumSeparatePairs(const int8_t* a, size_t groups, const uint8_t* group,
                                                       const int32_t* start, int32x4_t (*sums)[1]) {
  int32x4_t all[2 * kPairs][1];
  SumPairs<WeightForm::kSeparate, kPairs>(a, groups, group, start, all);
  std::memcpy(sums, all, sizeof(all));
}

// The sums of 2 * kPairs rows, which PairRows() brought together, over the groups that begin at `group`, of weights
// that are `joined` where they have 4 bits. They begin with start[4], of joined weights as PackJoinedBlocks() makes
// biases.
template <int32_t bits, int kPairs>
static inline void SumGroups(const int8_t* a, size_t groups, const uint8_t* group, bool joined, const int32_t* start,
                             int32x4_t (&sums)[2 * kPairs][1]) {
  constexpr WeightForm kForm = bits == 8 ? WeightForm::kBytes : WeightForm::kJoined;
  if (bits == 4 && !joined) {
    int32x4_t all[2 * kPairs][1];
    SumSeparatePairs<kPairs>(a, groups, group, start, all);
    std::memcpy(sums, all, sizeof(sums));
  } else {
    SumPairs<kForm, kPairs>(a, groups, group, start, sums);
  }
}

// The same over one packed block.
template <int32_t bits, int kPairs>
static inline void SumBlock(const GemmShape& shape, const int8_t* a, const uint8_t* block, const int32_t* start,
                            int32x4_t (&sums)[2 * kPairs][1]) {
  const bool joined = bits == 4 && IsJoined(kLayout<bits>, block);
  SumGroups<bits, kPairs>(a, GroupsOf(kLayout<bits>, shape), block + GroupsOffset(kLayout<bits>), joined, start, sums);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_I8MM_GEMM_16X4C8_NEON_I8MM_H_
