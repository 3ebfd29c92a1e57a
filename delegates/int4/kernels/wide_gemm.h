// The matrix product between 16-bit activations, for any vector with an instruction that adds products of 16 bits into
// 32: values of a row are broadcast against weights, which are decoded to 16 bits as they are read. 32-bit sums move to
// 64 bits before they could overflow.
//
// A vector type belongs to one tier's file (its unnamed namespace), and so do the instances of what is here.
#ifndef TFQ_DELEGATES_INT4_KERNELS_WIDE_GEMM_H_
#define TFQ_DELEGATES_INT4_KERNELS_WIDE_GEMM_H_

#include <cstdint>
#include <cstring>
#include <utility>

#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/wide_stage.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

// Products that fit 32 bits: one is at most 2^15 * 2^(bits - 1).
static constexpr int32_t ProductsIn32Bits(int32_t bits) { return (1 << (17 - bits)) - 1; }

// Vector has:
//   Sums           kLanes sums of 32 bits; Zero(); AddTo(sums, wide), which adds them to 64-bit sums in memory
//   kRows          rows of a tile, kTogether of which are multiplied in turn
//   kKr            values of a row that are read together; Row LoadRow(from), Row LoadPart(from, count) of less than
//   kKr PlaceOf(n, k)  where a group has the weight of output channel n and value k; Weights Load<bits>(group)
//   kApplyStage    ApplyWideRows() or what does the same
//   Add<step>(weights, row, sums), which kSteps times adds the products of a group to the two vectors of a row's sums
template <typename Vector, int32_t bits>
struct WideGemm {
  using Sums = typename Vector::Sums;
  using Row = typename Vector::Row;
  using Weights = typename Vector::Weights;

  static constexpr int32_t kMr = Vector::kRows;
  static constexpr int32_t kNr = 2 * Vector::kLanes;
  static constexpr int32_t kKr = Vector::kKr;
  static constexpr int32_t kGroupsIn32Bits = ProductsIn32Bits(bits) / kKr;
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
            Put(ValueAt(source.values, weight), Vector::PlaceOf(i, c % kKr),
                groups + static_cast<size_t>(c / kKr) * kGroupBytes);
          }
        }
      }
    }
  }

  // Of 4 bits, the low nibbles of a group are the first half of its places and the high ones the second.
  static void Put(int32_t value, int32_t place, uint8_t* group) {
    constexpr int32_t kHalf = kNr * kKr / 2;
    if (bits == 8) {
      group[place] = static_cast<uint8_t>(value);
    } else {
      group[place % kHalf] |= static_cast<uint8_t>((value & 15) << (place / kHalf * 4));
    }
  }

  // The products of rows first..end-1.
  template <int kRows, int... kStep>
  static __attribute__((always_inline)) void AddRows(const Weights& weights, const Row (&row)[kRows], int first,
                                                     int end, Sums (&sums)[kRows][2],
                                                     std::integer_sequence<int, kStep...>) {
    const auto add = [&](auto step) {
      TFQ_UNROLL
      for (int m = first; m < end; ++m) Vector::template Add<step.value>(weights, row[m], sums[m]);
    };
    (add(std::integral_constant<int, kStep>()), ...);
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
      int32_t room = kGroupsIn32Bits;
      const uint8_t* group = block + kSectionBytes;
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        const int16_t* rows[kRows];
        TFQ_UNROLL
        for (int m = 0; m < kRows; ++m) rows[m] = tile.rows[tap * kMr + m];
        const auto add = [&](const auto& load) {
          const Weights weights = Vector::template Load<bits>(group);
          group += kGroupBytes;
          TFQ_UNROLL
          for (int first = 0; first < kRows; first += Vector::kTogether) {
            const int end = first + Vector::kTogether < kRows ? first + Vector::kTogether : kRows;
            Row row[kRows];
            TFQ_UNROLL
            for (int m = first; m < end; ++m) row[m] = load(m);
            AddRows(weights, row, first, end, sums, std::make_integer_sequence<int, Vector::kSteps>());
          }
        };
        for (int32_t c = 0; c < shape.channels;) {
          const int32_t left = shape.channels - c;
          const int32_t end = left / kKr < room ? shape.channels : c + room * kKr;
          room -= (end - c + kKr - 1) / kKr;
          for (; c + kKr <= end; c += kKr) {
            add([&](int m) { return Vector::LoadRow(rows[m] + c); });
          }
          if (c < end) {
            add([&](int m) { return Vector::LoadPart(rows[m] + c, end - c); });
            c = end;
          }
          if (room == 0) {
            widen();
            clear();
            room = kGroupsIn32Bits;
          }
        }
      }
      widen();
      const int32_t columns = tile.n_end - n < kNr ? tile.n_end - n : kNr;
      Vector::kApplyStage(wide[0], kNr, kRows, reinterpret_cast<const WideChannel*>(block), columns, tile.stage, out,
                          tile.out_stride);
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
