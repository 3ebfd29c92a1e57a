// Matrix products on NEON without dot product (Cortex-A53, A72): blocks of four output channels, for any format of
// weights and either kind of output.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_GEMM_4C8_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_GEMM_4C8_NEON_H_

#include <arm_neon.h>

#include <cstring>

#include "delegates/int4/kernels/neon/float_stage_neon.h"
#include "delegates/int4/kernels/neon/int4_sums_neon.h"
#include "delegates/int4/kernels/neon/int8_sums_neon.h"
#include "delegates/int4/kernels/neon/lowest_weight.h"
#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/packing/gemm_blocks.h"
#include "delegates/int4/packing/joined_nibbles.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

constexpr int32_t kNr4 = 4;
constexpr int32_t kKr8 = 8;

// Weights of so many bits: their layout, and the sums that belong to it. kLowest: a weight of 8 bits may be -128.
template <int32_t bits, bool kLowest = false>
struct Weights4c8 {
  static constexpr int32_t kBits = bits;
  static constexpr int32_t kMr = bits == 8 ? kInt8Mr : kInt4Mr;
  static constexpr BlockLayout kLayout = {kNr4, kKr8, bits, alignof(int32_t), bits == 4 ? kJoinedFlagBytes : 0};
  static constexpr size_t kHeaderBytes = bits == 8 ? kLowestWeightBytes : 0;

  template <int kRows>
  static void AddTaps(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block,
                      int32x4_t (&total)[kRows][1]) {
    const uint8_t* groups = block + GroupsOffset(kLayout);
    if constexpr (bits == 8) {
      AddInt8Taps<kLowest>(shape.taps, shape.channels, rows, groups, total);
    } else {
      AddInt4Taps(shape.taps, 0, shape.channels, rows, groups, IsJoined(kLayout, block), total);
    }
  }
};

using Int4Weights4c8 = Weights4c8<4>;
using Int8Weights4c8 = Weights4c8<8>;
using AnyInt8Weights4c8 = Weights4c8<8, true>;

// Packs `channels` values from number `begin` on as channel i of a block. Two groups of eight channels make a step, an
// odd last group is a step of eight. At 8 bits a step is its bytes of each channel, one after the other. At 4 bits
// those of channels 0 and 1 of the block are low nibbles, in the high ones are channels 2 and 3.
template <int32_t bits>
static void PackChannel4c8(const WeightValues& values, size_t begin, int32_t channels, int32_t i, uint8_t* groups) {
  constexpr size_t kBytes = GroupBytes({kNr4, kKr8, bits});
  const int32_t count = (channels + kKr8 - 1) / kKr8;
  for (int32_t c = 0; c < channels; ++c) {
    const int32_t value = ValueAt(values, begin + c);
    const bool paired = c / 16 * 2 + 1 < count;
    const int32_t width = paired ? 16 : 8;
    uint8_t* step = groups + c / 16 * 2 * kBytes + c % width;
    if (bits == 8) {
      step[i * width] = static_cast<uint8_t>(value);
    } else {
      step[i % 2 * width] |= static_cast<uint8_t>((value & 15) << (i / 2 * 4));
    }
  }
}

template <typename W>
static size_t PackedBytes4c8(const GemmShape& shape) {
  return RoundUp(W::kHeaderBytes + PackedBytesOf(W::kLayout, shape), kPackedAlignment);
}

// Calls write_section(n, sums, block) for the section of each block, with the sums of its channels' weights.
template <typename W, typename WriteSection>
static void PackBlocks4c8(const GemmShape& shape, const WeightValues& values, void* packed,
                          const WriteSection& write_section) {
  std::memset(packed, 0, PackedBytes4c8<W>(shape));
  const size_t depth = size_t(shape.taps) * shape.channels;
  if (W::kBits == 8) WriteLowestWeight(values, shape.n * depth, packed);
  const size_t tap_bytes = GroupsOfTap(W::kLayout, shape) * GroupBytes(W::kLayout);
  uint8_t* block = static_cast<uint8_t*>(packed) + W::kHeaderBytes;
  for (int32_t n = 0; n < shape.n; n += kNr4, block += BlockBytes(W::kLayout, shape)) {
    int32_t sums[kNr4] = {};
    for (int32_t i = 0; i < kNr4 && n + i < shape.n; ++i) {
      size_t begin = (n + i) * depth;
      sums[i] = SumOfWeights(values, begin, depth, 1);
      uint8_t* groups = block + GroupsOffset(W::kLayout);
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += tap_bytes, begin += shape.channels) {
        PackChannel4c8<W::kBits>(values, begin, shape.channels, i, groups);
      }
    }
    if (W::kBits == 4) {
      block[ChannelSectionBytes(kNr4)] = JoinNibbles(block + GroupsOffset(W::kLayout), shape.taps * tap_bytes);
    }
    write_section(n, sums, block);
  }
}

template <typename W>
static void PackStatic4c8(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks4c8<W>(shape, source.values, packed, [&](int32_t n, const int32_t* sums, uint8_t* block) {
    WriteChannelSection(source, n, shape.n, kNr4, source.input_zero_point, sums, reinterpret_cast<int32_t*>(block));
  });
}

template <typename W>
static void PackDynamic4c8(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  static_assert(ScaledSectionBytes(kNr4) == ChannelSectionBytes(kNr4));
  PackBlocks4c8<W>(shape, source.values, packed, [&](int32_t n, const int32_t*, uint8_t* block) {
    WriteScaledSection(source, shape, n, kNr4, block);
  });
}

// The tile of a kernel whose blocks do not begin at the front of what is packed.
template <typename Tile>
static inline Tile BehindHeader(Tile tile, size_t bytes) {
  tile.packed = static_cast<const uint8_t*>(tile.packed) + bytes;
  return tile;
}

// A function for each number of rows that a tile may have: in one for all GCC 12 runs out of registers.
template <typename W, int kRows>
static __attribute__((noinline)) void RunStaticRows4c8(const GemmShape shape, const GemmTile tile_in) {
  const GemmTile tile = BehindHeader(tile_in, W::kHeaderBytes);
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(W::kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    const int32_t* section = reinterpret_cast<const int32_t*>(at.packed);
    int32x4_t sums[kRows][1];
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) sums[m][0] = vld1q_s32(section);
    W::AddTaps(shape, tile.rows, at.packed, sums);
    const ScaleNeon<1> scale(section + kNr4, section + 2 * kNr4, at.n, ties_away_begin);
    ScaleRowsNeon(sums, scale, scale.OnlyRight(), form);
    StoreFoursNeon(sums, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

template <typename W, int kRows = W::kMr>
static void RunStatic4c8(const GemmShape& shape, const GemmTile& tile) {
  if constexpr (kRows > 1) {
    if (tile.m < kRows) return RunStatic4c8<W, kRows - 1>(shape, tile);
  }
  RunStaticRows4c8<W, kRows>(shape, tile);
}

template <typename W, int kRows>
static __attribute__((noinline)) void RunDynamicRows4c8(const GemmShape shape, const DynamicGemmTile tile_in) {
  const DynamicGemmTile tile = BehindHeader(tile_in, W::kHeaderBytes);
  for (auto at = BlocksOf(W::kLayout, shape, tile); at.n < tile.n_end; at.Next()) {
    int32x4_t sums[kRows][1];
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) sums[m][0] = vdupq_n_s32(0);
    W::AddTaps(shape, tile.rows, at.packed, sums);
    StoreChannelsNeon(sums, tile, ReadScaledSection(at.packed, kNr4), tile.n_end - at.n, at.out);
  }
}

template <typename W, int kRows = W::kMr>
static void RunDynamic4c8(const GemmShape& shape, const DynamicGemmTile& tile) {
  if constexpr (kRows > 1) {
    if (tile.m < kRows) return RunDynamic4c8<W, kRows - 1>(shape, tile);
  }
  RunDynamicRows4c8<W, kRows>(shape, tile);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_GEMM_4C8_NEON_H_
