// GEMM on NEON with dot product. A nibble is moved to the top of its byte and left there: SDOT then sums 16 times the
// products, and one arithmetic shift of the sum takes the 16 off again, exactly. A 32-bit sum of 16-fold products holds
// 2^17 channels; longer rows are cut and their parts added.
#include <arm_neon.h>

#include <cstring>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 8;
constexpr int32_t kNr = 8;
constexpr int32_t kKr = 4;
constexpr size_t kGroupBytes = kNr * kKr / 2;
constexpr int32_t kStepChannels = 16;  // one load of a row
constexpr int32_t kMaxDepth = 1 << 16;

size_t GroupsOfTap(const GemmShape& shape) { return (size_t(shape.channels) + kKr - 1) / kKr; }

size_t BlockBytes(const GemmShape& shape) {
  return ChannelSectionBytes(kNr) + shape.taps * GroupsOfTap(shape) * kGroupBytes;
}

size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(RoundUp(shape.n, kNr) / kNr * BlockBytes(shape), kPackedAlignment);
}

// Byte 4 * i + k of a group: channel i in the low nibble, channel i + 4 in the high one.
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(shape)) {
    int32_t sums[kNr] = {};
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      const size_t weights = (n_begin + i) * depth;
      sums[i] = SumOfWeights(source.values, weights, depth, 1);
      uint8_t* groups = block + ChannelSectionBytes(kNr) + i % 4 * kKr;
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += GroupsOfTap(shape) * kGroupBytes) {
        for (int32_t c = 0; c < shape.channels; ++c) {
          const int32_t value = ValueAt(source.values, weights + size_t(tap) * shape.channels + c) & 15;
          groups[c / kKr * kGroupBytes + c % kKr] |= static_cast<uint8_t>(value << (i / 4 * 4));
        }
      }
    }
    WriteChannelSection(source, n_begin, shape.n, kNr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

template <int kRows>
struct Sums {
  int32x4_t total[kRows][2];
  int32x4_t sixteenfold[kRows][2];
};

template <int kRows>
inline void Collect(Sums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      sums.total[m][v] = vsraq_n_s32(sums.total[m][v], sums.sixteenfold[m][v], 4);
      sums.sixteenfold[m][v] = vdupq_n_s32(0);
    }
  }
}

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

inline WeightPair DecodeWeights(const uint8_t* group) {
  const uint8x16_t bytes = vld1q_u8(group);
  return {vreinterpretq_s8_u8(vshlq_n_u8(bytes, 4)), vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(0xf0)))};
}

// Four channels, lane kLane of each row's sixteen.
template <int kLane, int kRows>
inline void AccumulateLane(const uint8_t* group, const int8x16_t (&a)[kRows], int32x4_t (&sums)[kRows][2]) {
  const WeightPair weights = DecodeWeights(group + kLane * kGroupBytes);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m][0] = vdotq_laneq_s32(sums[m][0], weights.low, a[m], kLane);
    sums[m][1] = vdotq_laneq_s32(sums[m][1], weights.high, a[m], kLane);
  }
}

template <int kRows>
inline Sums<kRows> SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block) {
  Sums<kRows> sums;
  const int32_t* bias = reinterpret_cast<const int32_t*>(block);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      sums.total[m][v] = vld1q_s32(bias + 4 * v);
      sums.sixteenfold[m][v] = vdupq_n_s32(0);
    }
  }
  const uint8_t* group = block + ChannelSectionBytes(kNr);
  const int32_t whole = shape.channels / kStepChannels * kStepChannels;
  int32_t room = kMaxDepth;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int32_t c = 0;
    while (c < whole) {
      const int32_t channels = whole - c < room ? whole - c : room;
      for (const int32_t end = c + channels; c < end; c += kStepChannels, group += 4 * kGroupBytes) {
        int8x16_t a[kRows];
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) a[m] = vld1q_s8(rows[m] + c);
        AccumulateLane<0>(group, a, sums.sixteenfold);
        AccumulateLane<1>(group, a, sums.sixteenfold);
        AccumulateLane<2>(group, a, sums.sixteenfold);
        AccumulateLane<3>(group, a, sums.sixteenfold);
      }
      room -= channels;
      if (room == 0) {
        Collect(sums);
        room = kMaxDepth;
      }
    }
    for (; c < shape.channels; c += kKr, group += kGroupBytes) {
      const WeightPair weights = DecodeWeights(group);
      const int32_t left = shape.channels - c;
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) {
        const uint32_t four = static_cast<uint32_t>(LoadPart(rows[m] + c, left < kKr ? left : kKr));
        const int8x16_t a = vreinterpretq_s8_u32(vdupq_n_u32(four));
        sums.sixteenfold[m][0] = vdotq_s32(sums.sixteenfold[m][0], weights.low, a);
        sums.sixteenfold[m][1] = vdotq_s32(sums.sixteenfold[m][1], weights.high, a);
      }
    }
    if (whole != shape.channels && (room -= kStepChannels) == 0) {
      Collect(sums);
      room = kMaxDepth;
    }
  }
  Collect(sums);
  return sums;
}

template <int kRows, RoundingForm form>
void RunRounded(const GemmShape& shape, const GemmTile& tile) {
  const size_t block_bytes = BlockBytes(shape);
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * block_bytes;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, block += block_bytes, out += kNr) {
    const Sums<kRows> sums = SumBlock<kRows>(shape, tile.rows, block);
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(block) + kNr;
    const int32_t* shift = multiplier + kNr;
    const ScaleNeon scales[2] = {LoadScaleNeon(multiplier, shift, n, ties_away_begin),
                                 LoadScaleNeon(multiplier + 4, shift + 4, n + 4, ties_away_begin)};
    const int32_t left = tile.n_end - n;
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      if (m >= tile.m) break;
      const int32x4_t low = ApplyOutputStageNeon<form>(sums.total[m][0], scales[0], tile.stage);
      const int32x4_t high = ApplyOutputStageNeon<form>(sums.total[m][1], scales[1], tile.stage);
      StorePartNeon(out + m * tile.out_stride, NarrowNeon(low, high), left);
    }
  }
}

template <int kRows>
void RunRows(const GemmShape& shape, const GemmTile& tile) {
  switch (FormOf(tile.stage.rounding, shape.n, tile.n_end)) {
    case RoundingForm::kSingle:
      return RunRounded<kRows, RoundingForm::kSingle>(shape, tile);
    case RoundingForm::kUpward:
      return RunRounded<kRows, RoundingForm::kUpward>(shape, tile);
    case RoundingForm::kAway:
      return RunRounded<kRows, RoundingForm::kAway>(shape, tile);
  }
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunRows<1>(shape, tile);
    case 2:
      return RunRows<2>(shape, tile);
    case 3:
    case 4:
      return RunRows<4>(shape, tile);
    default:
      return RunRows<8>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_8x8c4_neon_dotprod = {
    "gemm_qs8_qs4cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
