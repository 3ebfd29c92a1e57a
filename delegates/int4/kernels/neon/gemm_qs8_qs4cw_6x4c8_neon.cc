// GEMM on NEON without dot product (Cortex-A53, A72). A product of int4 and int8 is at most 1024, so 16-bit sums hold
// 31 of them: SMLAL and SMLAL2 add sixteen channels of one row to the sums of one output, two to a lane, for fifteen
// steps before they are widened. Nothing is broadcast; the lanes of an output are added up when they are widened.
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

constexpr int32_t kMr = 6;
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

struct WeightPair {
  int8x16_t low;
  int8x16_t high;
};

inline WeightPair DecodeWeights(const uint8_t* from) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(from));
  return {vshrq_n_s8(vshlq_n_s8(bytes, 4), 4), vshrq_n_s8(bytes, 4)};
}

// The sums of kRows rows and four output channels: total in 32 bits, and in 16 bits what the last `steps` steps added.
template <int kRows>
struct Sums {
  int32x4_t total[kRows][1];
  int16x8_t narrow[kRows][kNr];
  int32_t steps = 0;

  void Clear() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < kNr; ++i) narrow[m][i] = vdupq_n_s16(0);
    }
  }

  void Collect() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const int32x4_t first = vpaddq_s32(vpaddlq_s16(narrow[m][0]), vpaddlq_s16(narrow[m][1]));
      const int32x4_t second = vpaddq_s32(vpaddlq_s16(narrow[m][2]), vpaddlq_s16(narrow[m][3]));
      total[m][0] = vaddq_s32(total[m][0], vpaddq_s32(first, second));
    }
    steps = 0;
  }

  void CountSteps(int32_t count) {
    steps += count;
    if (steps == kStepsIn16Bits) Collect();
  }

  // Asks for the sums in registers behind the inner loop. GCC would have them elsewhere there and copy them in every
  // turn.
  void KeepInRegisters() {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      TFQ_UNROLL
      for (int i = 0; i < kNr; ++i) asm("" : "+w"(narrow[m][i]));
    }
  }
};

template <bool kStart>
inline int16x8_t AddProducts(int16x8_t sum, int8x16_t weights, int8x16_t a) {
  const int8x8_t w = vget_low_s8(weights);
  return vmlal_high_s8(kStart ? vmull_s8(w, vget_low_s8(a)) : vmlal_s8(sum, w, vget_low_s8(a)), weights, a);
}

// Sixteen channels, `load` giving them for each row. kStart writes the 16-bit sums, where else it adds to them.
template <bool kStart, int kRows, typename Load>
inline void AddStep(const uint8_t* group, const Load& load, Sums<kRows>& sums) {
  const WeightPair first = DecodeWeights(group);
  const WeightPair second = DecodeWeights(group + kGroupBytes);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const int8x16_t a = load(m);
    sums.narrow[m][0] = AddProducts<kStart>(sums.narrow[m][0], first.low, a);
    sums.narrow[m][1] = AddProducts<kStart>(sums.narrow[m][1], first.high, a);
    sums.narrow[m][2] = AddProducts<kStart>(sums.narrow[m][2], second.low, a);
    sums.narrow[m][3] = AddProducts<kStart>(sums.narrow[m][3], second.high, a);
  }
}

// Up to eight channels.
template <int kRows>
inline void AddHalfStep(const uint8_t* group, const int8_t* const* rows, int32_t c, int32_t count, Sums<kRows>& sums) {
  const WeightPair weights = DecodeWeights(group);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    const int8x8_t a = LoadPartNeon(rows[m] + c, count);
    const int8x16_t twice = vcombine_s8(a, a);
    sums.narrow[m][0] = vmlal_s8(sums.narrow[m][0], vget_low_s8(weights.low), a);
    sums.narrow[m][1] = vmlal_high_s8(sums.narrow[m][1], weights.low, twice);
    sums.narrow[m][2] = vmlal_s8(sums.narrow[m][2], vget_low_s8(weights.high), a);
    sums.narrow[m][3] = vmlal_high_s8(sums.narrow[m][3], weights.high, twice);
  }
}

template <int kRows>
inline void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block, Sums<kRows>& sums) {
  const int32x4_t bias = vld1q_s32(reinterpret_cast<const int32_t*>(block));
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) sums.total[m][0] = bias;
  const uint8_t* group = block + ChannelSectionBytes(kNr);
  const int32_t tail = shape.channels % 16;
  const int32_t whole = shape.channels - tail;
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr) {
    int32_t c = 0;
    const auto load = [&](int m) { return vld1q_s8(rows[m] + c); };
    while (c < whole) {
      int32_t count = 0;
      if (sums.steps == 0) {
        AddStep<true>(group, load, sums);
        count = 1;
        c += 16;
        group += 2 * kGroupBytes;
      }
      const int32_t room = kStepsIn16Bits - sums.steps - count;
      const int32_t left = (whole - c) / 16;
      const int32_t more = left < room ? left : room;
      for (const int32_t end = c + more * 16; c < end; c += 16, group += 2 * kGroupBytes) {
        AddStep<false>(group, load, sums);
      }
      sums.KeepInRegisters();
      sums.CountSteps(count + more);
    }
    if (tail == 0) continue;
    if (sums.steps == 0) sums.Clear();
    if (tail > kKr) {
      const auto load_part = [&](int m) {
        return vcombine_s8(vld1_s8(rows[m] + c), LoadPartNeon(rows[m] + c + kKr, tail - kKr));
      };
      AddStep<false>(group, load_part, sums);
      group += 2 * kGroupBytes;
    } else {
      AddHalfStep(group, rows, c, tail, sums);
      group += kGroupBytes;
    }
    sums.CountSteps(1);
  }
  if (sums.steps != 0) sums.Collect();
}

inline void StoreFour(int8_t* to, int8x8_t bytes, bool upper, int32_t count) {
  const uint64_t both = vget_lane_u64(vreinterpret_u64_s8(bytes), 0);
  const uint32_t four = static_cast<uint32_t>(upper ? both >> 32 : both);
  if (count >= kNr) {
    std::memcpy(to, &four, kNr);
  } else {
    for (int32_t i = 0; i < count; ++i) to[i] = static_cast<int8_t>(four >> (8 * i));
  }
}

template <int kRows>
void RunRows(const GemmShape shape, const GemmTile tile) {
  const size_t block_bytes = BlockBytes(shape);
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr * block_bytes;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, block += block_bytes, out += kNr) {
    Sums<kRows> sums;
    SumBlock<kRows>(shape, tile.rows, block, sums);
    const int32_t* multiplier = reinterpret_cast<const int32_t*>(block) + kNr;
    const ScaleNeon<1> scale(multiplier, multiplier + kNr, n, ties_away_begin);
    ScaleRowsNeon(sums.total, scale, scale.OnlyRight(), form);
    const int32_t left = tile.n_end - n;
    TFQ_UNROLL
    for (int m = 0; m < kRows; m += 2) {
      if (m >= tile.m) break;
      const int8x8_t outputs = stage.Clamp(stage.Words(sums.total[m][0], sums.total[m + 1 < kRows ? m + 1 : m][0]));
      StoreFour(out + m * tile.out_stride, outputs, false, left);
      if (m + 1 < tile.m) StoreFour(out + (m + 1) * tile.out_stride, outputs, true, left);
    }
  }
}

void Run(const GemmShape& shape, const GemmTile& tile) {
  switch (tile.m) {
    case 1:
      return RunRows<1>(shape, tile);
    case 2:
      return RunRows<2>(shape, tile);
    case 3:
      return RunRows<3>(shape, tile);
    case 4:
      return RunRows<4>(shape, tile);
    case 5:
      return RunRows<5>(shape, tile);
    default:
      return RunRows<6>(shape, tile);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_6x4c8_neon = {
    "gemm_qs8_qs4cw_6x4c8_neon", CpuTier::kNeon, kQs4cw, kMr, kNr, kKr, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
