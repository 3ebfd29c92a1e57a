// Products of rows that were quantized at run time and weights in blocks, on AVX-512 VNNI. The sums of a block are
// integers; each block's go to floating-point sums with its scale. Scales stay half precision in memory.
#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 6;  // integer and floating-point sums of so many rows fit the registers
constexpr size_t kScaleBytes = kNr32 * sizeof(uint16_t);
constexpr int32_t kWeightOffset = 8;
constexpr size_t kPrefetchBytes =
    4096;  // the stream of weights is long and read once: what comes next is asked for early

size_t PartBytes(const GemmShape& shape) { return kScaleBytes + shape.block / kKr4 * GroupBytes(4); }

size_t BlockBytes(const GemmShape& shape) { return ScaledSectionBytes(kNr32) + BlocksOf(shape) * PartBytes(shape); }

size_t PackedBytes(const GemmShape& shape) { return RoundUp(shape.n, kNr32) / kNr32 * BlockBytes(shape); }

void Pack(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr32, block += BlockBytes(shape)) {
    WriteScaledSection(source, shape, n_begin, kNr32, block);
    for (int32_t i = 0; i < kNr32 && n_begin + i < shape.n; ++i) {
      uint8_t* part = block + ScaledSectionBytes(kNr32);
      for (size_t b = 0; b < BlocksOf(shape); ++b, part += PartBytes(shape)) {
        reinterpret_cast<uint16_t*>(part)[i] = source.block_scale[(n_begin + i) * BlocksOf(shape) + b];
        PackChannels32c4<4, Stored::kUnsigned>(source.values, size_t(n_begin + i) * shape.channels + b * shape.block,
                                               shape.block, i, part + kScaleBytes);
      }
    }
  }
}

template <int kRows>
struct FloatSums {
  __m512 of[kRows][2];
};

template <int kRows>
TFQ_SUMS_STAY inline FloatSums<kRows> SumBlocks(const GemmShape& shape, const DynamicGemmTile& tile,
                                                const uint8_t* part) {
  const int32_t blocks = static_cast<int32_t>(BlocksOf(shape));
  const int32_t* block_sums = tile.stage.block_sums;
  const int8_t* rows[kRows];
  FloatSums<kRows> total;
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    rows[m] = tile.rows[m];
    total.of[m][0] = total.of[m][1] = _mm512_setzero_ps();
  }
  int32_t c = 0;
  for (int32_t b = 0; b < blocks; ++b) {
    Sums<kRows> sums;
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const __m512i row_sum = _mm512_set1_epi32(-16 * kWeightOffset * block_sums[m * blocks + b]);
      sums.high[m] = row_sum;
      sums.low[m] = _mm512_add_epi32(row_sum, _mm512_srai_epi32(row_sum, 4));
    }
    const uint8_t* group = part + kScaleBytes;
    _mm_prefetch(reinterpret_cast<const char*>(part + kPrefetchBytes), _MM_HINT_T0);
    for (const int32_t end = c + shape.block; c < end; c += kKr4, group += GroupBytes(4)) {
      _mm_prefetch(reinterpret_cast<const char*>(group + kPrefetchBytes), _MM_HINT_T0);
      int32_t fours[kRows];
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) fours[m] = LoadFour(rows[m] + c);
      Accumulate<4, kRows, Columns::kBoth>(group, fours, sums);
    }
    const __m512i halves = _mm512_load_si512(part);
    const __m512 scale_low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    // What is summed of the high nibbles is 16 times too much.
    const __m512 scale_high =
        _mm512_mul_ps(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)), _mm512_set1_ps(1.0f / 16));
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const __m512 low = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums.low[m], sums.high[m]));
      total.of[m][0] = _mm512_fmadd_ps(low, scale_low, total.of[m][0]);
      total.of[m][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.high[m]), scale_high, total.of[m][1]);
    }
    part = group;
  }
  return total;
}

template <int kRows>
TFQ_SUMS_STAY void RunRows(const GemmShape& shape, const DynamicGemmTile& tile) {
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * BlockBytes(shape);
  const __m512 min = _mm512_set1_ps(tile.stage.min), max = _mm512_set1_ps(tile.stage.max);
  float* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr32, block += BlockBytes(shape), out += kNr32) {
    const FloatSums<kRows> sums = SumBlocks<kRows>(shape, tile, block + ScaledSectionBytes(kNr32));
    const ScaledSection section = ReadScaledSection(block, kNr32);
    const int32_t columns = tile.n_end - n < kNr32 ? tile.n_end - n : kNr32;
    const uint32_t used = ~uint32_t{0} >> (kNr32 - columns);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const RowQuantization& row = tile.stage.rows[m];
      const __m512 zero_point = _mm512_set1_ps(static_cast<float>(row.zero_point));
      TFQ_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m512 weight_sum = _mm512_load_ps(section.scaled_weight_sum + 16 * v);
        const __m512 sum = _mm512_fnmadd_ps(zero_point, weight_sum, sums.of[m][v]);
        const __m512 value = _mm512_fmadd_ps(sum, _mm512_set1_ps(row.scale), _mm512_load_ps(section.bias + 16 * v));
        _mm512_mask_storeu_ps(out + m * tile.out_stride + 16 * v, static_cast<__mmask16>(used >> (16 * v)),
                              _mm512_min_ps(_mm512_max_ps(value, min), max));
      }
    }
  }
}

void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  constexpr void (*kByRows[kMr])(const GemmShape&, const DynamicGemmTile&) = {RunRows<1>, RunRows<2>, RunRows<3>,
                                                                              RunRows<4>, RunRows<5>, RunRows<6>};
  kByRows[tile.m - 1](shape, tile);
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4b_6x32c4_avx512_vnni = {
    "gemm_qd8_qs4b_6x32c4_avx512_vnni", CpuTier::kAvx512Vnni, kQs4b, kMr, kNr32, kKr4, PackedBytes, Pack, Run,
};

}  // namespace tfq::int4
