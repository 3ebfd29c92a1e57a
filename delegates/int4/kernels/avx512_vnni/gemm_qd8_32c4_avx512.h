// Products of rows that were quantized at run time: the integer sums of the static kernels, scaled. What the kernels on
// AVX-512 VNNI and AMX share.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_QD8_32C4_AVX512_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_QD8_32C4_AVX512_H_

#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"

namespace tfq::int4 {

template <int32_t bits>
static size_t ScaledBlockBytes32c4(const GemmShape& shape) {
  return ScaledSectionBytes(kNr32) + shape.taps * GroupsOfTap(shape) * GroupBytes(bits);
}

template <int32_t bits>
static size_t ScaledPackedBytes32c4(const GemmShape& shape) {
  return RoundUp(shape.n, kNr32) / kNr32 * ScaledBlockBytes32c4<bits>(shape);
}

template <int32_t bits, Stored stored>
static void ScaledPack32c4(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, ScaledPackedBytes32c4<bits>(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr32, block += ScaledBlockBytes32c4<bits>(shape)) {
    WriteScaledSection(source, shape, n_begin, kNr32, block);
    for (int32_t i = 0; i < kNr32 && n_begin + i < shape.n; ++i) {
      uint8_t* groups = block + ScaledSectionBytes(kNr32);
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += GroupsOfTap(shape) * GroupBytes(bits)) {
        const size_t begin = (size_t(n_begin + i) * shape.taps + tap) * shape.channels;
        PackChannels32c4<bits, stored>(source.values, begin, shape.channels, i, groups);
      }
    }
  }
}

// From the integer sums of a block to its outputs, those of the first `rows` rows.
static inline void FinishScaledBlock(const DynamicGemmTile& tile, int32_t m_begin, int32_t rows, const uint8_t* block,
                                     int32_t columns, const __m512i (*sums)[2], float* out) {
  const ScaledSection section = ReadScaledSection(block, kNr32);
  const __m512 least = _mm512_set1_ps(tile.stage.min), most = _mm512_set1_ps(tile.stage.max);
  for (int32_t m = 0; m < rows; ++m, out += tile.out_stride) {
    const RowQuantization& row = tile.stage.rows[m_begin + m];
    for (int32_t v = 0; 16 * v < columns; ++v) {
      const __mmask16 used = static_cast<__mmask16>(columns - 16 * v >= 16 ? 0xffff : (1 << (columns - 16 * v)) - 1);
      const __m512i weight_sum = _mm512_load_si512(section.weight_sum + 16 * v);
      const __m512i constant = _mm512_mullo_epi32(weight_sum, _mm512_set1_epi32(row.zero_point));
      const __m512 scale = _mm512_mul_ps(_mm512_load_ps(section.scale + 16 * v), _mm512_set1_ps(row.scale));
      const __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[m][v], constant)), scale,
                                           _mm512_load_ps(section.bias + 16 * v));
      _mm512_mask_storeu_ps(out + 16 * v, used, _mm512_min_ps(_mm512_max_ps(value, least), most));
    }
  }
}

// Up to kMaxRows rows of a tile, from row m_begin on; `step` is the kernel's mr.
template <int32_t bits>
static void RunScaledRows32c4(const GemmShape& shape, const DynamicGemmTile& tile, int32_t m_begin, int32_t rows,
                              int32_t step) {
  int32_t corrections[kMaxRows];
  RowCorrections<bits>(shape, tile.rows + m_begin, step, rows, corrections);
  const TileInput input = {tile.rows + m_begin, step, corrections};
  const bool deep = int64_t{shape.taps} * shape.channels > kMaxDepth32c4<bits>;
  const size_t block_bytes = ScaledBlockBytes32c4<bits>(shape);
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * block_bytes;
  float* out = tile.out + m_begin * tile.out_stride;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr32, block += block_bytes, out += kNr32) {
    const int32_t columns = tile.n_end - n < kNr32 ? tile.n_end - n : kNr32;
    __m512i sums[kMaxRows][2];
    SumColumns<bits>(shape, input, rows, columns, deep, block + ScaledSectionBytes(kNr32), sums);
    FinishScaledBlock(tile, m_begin, rows, block, columns, sums, out);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_GEMM_QD8_32C4_AVX512_H_
