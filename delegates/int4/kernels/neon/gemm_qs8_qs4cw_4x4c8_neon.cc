// GEMM on NEON without dot product (Cortex-A53, A72). A product of int4 and int8 is at most 1024, so 16-bit sums hold
// 31 of them: SMLAL and SMLAL2 add sixteen channels of one row to the sums of one output, two to a lane, for fifteen
// steps before SADALP widens. Nothing is broadcast; the lanes of an output are added up once, at the end.
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

constexpr int32_t kMr = 4;
constexpr int32_t kNr = 4;
constexpr int32_t kKr = 8;
constexpr size_t kGroupBytes = kNr * kKr / 2;
constexpr int32_t kStepsIn16Bits = 15;

size_t GroupsOfTap(const GemmShape& shape) { return (size_t(shape.channels) + kKr - 1) / kKr; }

size_t BlockBytes(const GemmShape& shape) {
  return ChannelSectionBytes(kNr) + shape.taps * GroupsOfTap(shape) * kGroupBytes;
}

size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(RoundUp(shape.n, kNr) / kNr * BlockBytes(shape), kPackedAlignment);
}

// Two groups of eight channels make a step of 32 bytes: byte k holds channel 0 (low nibble) and 1 (high) of the block,
// byte 16 + k channels 2 and 3. An odd last group makes 16 bytes: bytes k and 8 + k hold channels 0 and 1 low, 2 and 3
// high.
void Pack(const GemmShape& shape, const WeightSource& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  const int32_t groups = static_cast<int32_t>(GroupsOfTap(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(shape)) {
    int32_t sums[kNr] = {};
    for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
      const size_t weights = (n_begin + i) * depth;
      sums[i] = SumOfWeights(source.values, weights, depth, 1);
      uint8_t* tap_bytes = block + ChannelSectionBytes(kNr);
      for (int32_t tap = 0; tap < shape.taps; ++tap, tap_bytes += groups * kGroupBytes) {
        for (int32_t c = 0; c < shape.channels; ++c) {
          const int32_t value = ValueAt(source.values, weights + size_t(tap) * shape.channels + c) & 15;
          const bool paired = c / 16 * 2 + 1 < groups;
          uint8_t* step = tap_bytes + c / 16 * 2 * kGroupBytes;
          uint8_t& byte = paired ? step[i / 2 * 16 + c % 16] : step[i % 2 * 8 + c % 8];
          byte |= static_cast<uint8_t>(value << (paired ? i % 2 * 4 : i / 2 * 4));
        }
      }
    }
    WriteChannelSection(source, n_begin, shape.n, kNr, source.input_zero_point, sums,
                        reinterpret_cast<int32_t*>(block));
  }
}

template <int kRows>
struct Sums {
  int32x4_t wide[kRows][kNr];
  int16x8_t narrow[kRows][kNr];
};

template <int kRows>
inline void Widen(Sums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int i = 0; i < kNr; ++i) {
      sums.wide[m][i] = vpadalq_s16(sums.wide[m][i], sums.narrow[m][i]);
      sums.narrow[m][i] = vdupq_n_s16(0);
    }
  }
}

// Asks for the sums in registers behind the inner loop. GCC would have them elsewhere there and copy them in every
// turn.
template <int kRows>
inline void KeepInRegisters(Sums<kRows>& sums) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int i = 0; i < kNr; ++i) asm("" : "+w"(sums.narrow[m][i]));
  }
}

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

inline WeightPair DecodeWeights(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  return {vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), vshrq_n_s8(bytes, 4)};
}

inline int16x8_t AddProducts(int16x8_t sum, int8x16_t weights, int8x16_t a) {
  return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(weights), vget_low_s8(a)), weights, a);
}

inline void AccumulateStep(const WeightPair& first, const WeightPair& second, int8x16_t a, int16x8_t (&narrow)[kNr]) {
  narrow[0] = AddProducts(narrow[0], first.low, a);
  narrow[1] = AddProducts(narrow[1], first.high, a);
  narrow[2] = AddProducts(narrow[2], second.low, a);
  narrow[3] = AddProducts(narrow[3], second.high, a);
}

inline void AccumulateGroup(const WeightPair& weights, int8x8_t a, int16x8_t (&narrow)[kNr]) {
  const int8x16_t twice = vcombine_s8(a, a);
  narrow[0] = vmlal_s8(narrow[0], vget_low_s8(weights.low), a);
  narrow[1] = vmlal_high_s8(narrow[1], weights.low, twice);
  narrow[2] = vmlal_s8(narrow[2], vget_low_s8(weights.high), a);
  narrow[3] = vmlal_high_s8(narrow[3], weights.high, twice);
}

template <int kRows>
inline Sums<kRows> SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group) {
  Sums<kRows> sums;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    TFQ_UNROLL
    for (int i = 0; i < kNr; ++i) {
      sums.wide[m][i] = vdupq_n_s32(0);
      sums.narrow[m][i] = vdupq_n_s16(0);
    }
  }
  const int32_t tail = shape.channels % 16;
  const int32_t whole = shape.channels - tail;
  int32_t room = kStepsIn16Bits;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int32_t c = 0;
    while (c < whole) {
      const int32_t left = (whole - c) / 16;
      const int32_t steps = left < room ? left : room;
      for (const int32_t end = c + steps * 16; c < end; c += 16, group += 2 * kGroupBytes) {
        const WeightPair first = DecodeWeights(group);
        const WeightPair second = DecodeWeights(group + kGroupBytes);
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) AccumulateStep(first, second, vld1q_s8(rows[m] + c), sums.narrow[m]);
      }
      KeepInRegisters(sums);
      room -= steps;
      if (room == 0) {
        Widen(sums);
        room = kStepsIn16Bits;
      }
    }
    if (tail > kKr) {
      const WeightPair first = DecodeWeights(group);
      const WeightPair second = DecodeWeights(group + kGroupBytes);
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) {
        const int8_t* row = rows[m] + whole;
        AccumulateStep(first, second, vcombine_s8(vld1_s8(row), LoadPartNeon(row + kKr, tail - kKr)), sums.narrow[m]);
      }
      group += 2 * kGroupBytes;
    } else if (tail != 0) {
      const WeightPair weights = DecodeWeights(group);
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) AccumulateGroup(weights, LoadPartNeon(rows[m] + whole, tail), sums.narrow[m]);
      group += kGroupBytes;
    }
    if (tail != 0 && --room == 0) {
      Widen(sums);
      room = kStepsIn16Bits;
    }
  }
  Widen(sums);
  return sums;
}

template <int kRows, RoundingForm form>
void RunRounded(const GemmShape& shape, const GemmTile& tile) {
  const size_t block_bytes = BlockBytes(shape);
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * block_bytes;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, block += block_bytes, out += kNr) {
    const Sums<kRows> sums = SumBlock<kRows>(shape, tile.rows, block + ChannelSectionBytes(kNr));
    const int32_t* bias = reinterpret_cast<const int32_t*>(block);
    const ScaleNeon scale = LoadScaleNeon(bias + kNr, bias + 2 * kNr, n, ties_away_begin);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      if (m >= tile.m) break;
      const int32x4_t sum =
          vpaddq_s32(vpaddq_s32(sums.wide[m][0], sums.wide[m][1]), vpaddq_s32(sums.wide[m][2], sums.wide[m][3]));
      const int32x4_t output = ApplyOutputStageNeon<form>(vaddq_s32(sum, vld1q_s32(bias)), scale, tile.stage);
      const uint32_t bytes = vget_lane_u32(vreinterpret_u32_s8(NarrowNeon(output, output)), 0);
      int8_t* to = out + m * tile.out_stride;
      if (tile.n_end - n >= kNr) {
        std::memcpy(to, &bytes, kNr);
      } else {
        for (int32_t i = 0; i < tile.n_end - n; ++i) to[i] = static_cast<int8_t>(bytes >> (8 * i));
      }
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
    default:
      return RunRows<4>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_4x4c8_neon = {
    "gemm_qs8_qs4cw_4x4c8_neon", CpuTier::kNeon, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
