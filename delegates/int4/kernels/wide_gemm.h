// The matrix product between 16-bit activations, for any vector with an instruction that adds products of 16 bits in
// pairs into 32: two values of a row are broadcast against pairs of weights, which are decoded to 16 bits as they are
// read. 32-bit sums move to 64 bits before they could overflow.
//
// A vector type belongs to one tier's file (its unnamed namespace), and so do the instances of what is here.
#ifndef TFQ_DELEGATES_INT4_KERNELS_WIDE_GEMM_H_
#define TFQ_DELEGATES_INT4_KERNELS_WIDE_GEMM_H_

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/wide_stage.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

// Pairs of products that fit 32 bits: a product is at most 2^15 * 2^(bits - 1).
static constexpr int32_t PairsIn32Bits(int32_t bits) { return (1 << (16 - bits)) - 1; }

// Vector has: Sums, kLanes sums of 32 bits; kRows, the rows of a tile; Broadcast(pair); Add(sums, weights, pair);
// Load<bits>(bytes, weights), two vectors of pairs; AddTo(sums, wide), which adds them to 64-bit sums in memory.
template <typename Vector, int32_t bits>
struct WideGemm {
  using Sums = typename Vector::Sums;

  static constexpr int32_t kMr = Vector::kRows;
  static constexpr int32_t kNr = 2 * Vector::kLanes;
  static constexpr int32_t kKr = 2;
  static constexpr size_t kGroupBytes = size_t{kNr} * kKr * bits / 8;
  static constexpr size_t kSectionBytes = sizeof(WideChannel) * kNr;

  static size_t GroupsOfTap(const GemmShape& shape) { return (static_cast<size_t>(shape.channels) + kKr - 1) / kKr; }

  static size_t BlockBytes(const GemmShape& shape) {
    return RoundUp(kSectionBytes + static_cast<size_t>(shape.taps) * GroupsOfTap(shape) * kGroupBytes,
                   kPackedAlignment);
  }

  static size_t PackedBytes(const GemmShape& shape) {
    return RoundUp(static_cast<size_t>(shape.n), kNr) / kNr * BlockBytes(shape);
  }

  static void Pack(const GemmShape& shape, const WideWeights& source, void* packed) {
    std::memset(packed, 0, PackedBytes(shape));
    uint8_t* block = static_cast<uint8_t*>(packed);
    size_t weight = 0;
    for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr, block += BlockBytes(shape)) {
      for (int32_t i = 0; i < kNr && n_begin + i < shape.n; ++i) {
        std::memcpy(block + sizeof(WideChannel) * static_cast<size_t>(i), source.channels + n_begin + i,
                    sizeof(WideChannel));
        uint8_t* groups = block + kSectionBytes;
        for (int32_t tap = 0; tap < shape.taps; ++tap, groups += GroupsOfTap(shape) * kGroupBytes) {
          for (int32_t c = 0; c < shape.channels; ++c, ++weight) {
            Put(ValueAt(source.values, weight), i * kKr + c % kKr, groups + static_cast<size_t>(c / kKr) * kGroupBytes);
          }
        }
      }
    }
  }

  // Of 4 bits, the low nibbles of a group are its first vector and the high ones its second.
  static void Put(int32_t value, int32_t place, uint8_t* group) {
    constexpr int32_t kHalf = kNr * kKr / 2;
    if (bits == 8) {
      group[place] = static_cast<uint8_t>(value);
    } else {
      group[place % kHalf] |= static_cast<uint8_t>((value & 15) << (place / kHalf * 4));
    }
  }

  static int32_t LoadPair(const int16_t* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return pair;
  }

  template <int kRows>
  static void RunRows(const GemmShape& shape, const WideGemmTile& tile) {
    const uint8_t* block =
        static_cast<const uint8_t*>(tile.packed) + static_cast<size_t>(tile.n_begin / kNr) * BlockBytes(shape);
    int16_t* out = tile.out;
    for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr, block += BlockBytes(shape), out += kNr) {
      alignas(64) int64_t wide[kRows][kNr] = {};
      Sums sums[kRows][2];
      const auto clear = [&] {
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) sums[m][0] = sums[m][1] = Vector::Zero();
      };
      const auto widen = [&] {
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) {
          Vector::AddTo(sums[m][0], wide[m]);
          Vector::AddTo(sums[m][1], wide[m] + Vector::kLanes);
        }
      };
      clear();
      int32_t room = PairsIn32Bits(bits);
      const uint8_t* group = block + kSectionBytes;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int16_t* rows[kRows];
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) rows[m] = tile.rows[tap * kMr + m];
        const auto add = [&](const auto& pair_of) {
          Sums weights[2];
          Vector::template Load<bits>(group, weights);
          group += kGroupBytes;
          TFQ_UNROLL
          for (int m = 0; m < kRows; ++m) {
            const Sums pair = Vector::Broadcast(pair_of(m));
            sums[m][0] = Vector::Add(sums[m][0], weights[0], pair);
            sums[m][1] = Vector::Add(sums[m][1], weights[1], pair);
          }
        };
        for (int32_t c = 0; c < shape.channels;) {
          const int32_t left = shape.channels - c;
          const int32_t end = left / kKr < room ? shape.channels : c + room * kKr;
          room -= (end - c + kKr - 1) / kKr;
          for (; c + kKr <= end; c += kKr) {
            add([&](int m) { return LoadPair(rows[m] + c); });
          }
          if (c < end) {
            add([&](int m) { return int32_t{static_cast<uint16_t>(rows[m][c])}; });
            ++c;
          }
          if (room == 0) {
            widen();
            clear();
            room = PairsIn32Bits(bits);
          }
        }
      }
      widen();
      const int32_t columns = tile.n_end - n < kNr ? tile.n_end - n : kNr;
      for (int32_t m = 0; m < kRows; ++m) {
        ApplyWideStage(wide[m], reinterpret_cast<const WideChannel*>(block), columns, tile.stage,
                       out + m * tile.out_stride);
      }
    }
  }

  template <int kRows>
  static void Run(const GemmShape& shape, const WideGemmTile& tile) {
    if constexpr (kRows > 1) {
      if (tile.m < kRows) return Run<kRows - 1>(shape, tile);
    }
    RunRows<kRows>(shape, tile);
  }

  static constexpr WideGemmKernel Kernel(const char* name, CpuTier tier) {
    return {name, tier, {bits, false}, kMr, kNr, kKr, PackedBytes, Pack, Run<kMr>};
  }
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_WIDE_GEMM_H_
