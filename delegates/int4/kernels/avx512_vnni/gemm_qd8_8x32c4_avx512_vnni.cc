// Products of rows that were quantized at run time, on AVX-512 VNNI: the integer sums of the static kernels, scaled.
#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
size_t BlockBytes(const GemmShape& shape) {
  return ScaledSectionBytes(kNr32) + shape.taps * GroupsOfTap(shape) * GroupBytes(bits);
}

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(shape.n, kNr32) / kNr32 * BlockBytes<bits>(shape);
}

template <int32_t bits>
void Pack(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes<bits>(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n_begin = 0; n_begin < shape.n; n_begin += kNr32, block += BlockBytes<bits>(shape)) {
    WriteScaledSection(source, shape, n_begin, kNr32, block);
    for (int32_t i = 0; i < kNr32 && n_begin + i < shape.n; ++i) {
      uint8_t* groups = block + ScaledSectionBytes(kNr32);
      for (int32_t tap = 0; tap < shape.taps; ++tap, groups += GroupsOfTap(shape) * GroupBytes(bits)) {
        const size_t begin = (size_t(n_begin + i) * shape.taps + tap) * shape.channels;
        PackChannels32c4<bits>(source.values, begin, shape.channels, i, groups);
      }
    }
  }
}

// From the integer sums of a block to its outputs.
void FinishRow(const DynamicGemmTile& tile, int32_t m, const ScaledSection& section, const __m512i (&sums)[2],
               int32_t columns, float* out) {
  const RowQuantization& row = tile.stage.rows[m];
  for (int32_t v = 0; 16 * v < columns; ++v) {
    const __mmask16 used = static_cast<__mmask16>(columns - 16 * v >= 16 ? 0xffff : (1 << (columns - 16 * v)) - 1);
    const __m512i weight_sum = _mm512_load_si512(section.weight_sum + 16 * v);
    const __m512i constant = _mm512_mullo_epi32(weight_sum, _mm512_set1_epi32(row.zero_point));
    const __m512 scale = _mm512_mul_ps(_mm512_load_ps(section.scale + 16 * v), _mm512_set1_ps(row.scale));
    const __m512 value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[v], constant)), scale,
                                         _mm512_load_ps(section.bias + 16 * v));
    const __m512 clamped =
        _mm512_min_ps(_mm512_max_ps(value, _mm512_set1_ps(tile.stage.min)), _mm512_set1_ps(tile.stage.max));
    _mm512_mask_storeu_ps(out + 16 * v, used, clamped);
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  int32_t corrections[kMaxRows];
  RowCorrections<bits>(shape, tile.rows, kMaxRows, tile.m, corrections);
  const TileInput input = {tile.rows, kMaxRows, corrections};
  const bool deep = int64_t{shape.taps} * shape.channels > kMaxDepth32c4<bits>;
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * BlockBytes<bits>(shape);
  float* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr32, block += BlockBytes<bits>(shape), out += kNr32) {
    const int32_t columns = tile.n_end - n < kNr32 ? tile.n_end - n : kNr32;
    __m512i sums[kMaxRows][2];
    SumColumns<bits>(shape, input, tile.m, columns, deep, block + ScaledSectionBytes(kNr32), sums);
    const ScaledSection section = ReadScaledSection(block, kNr32);
    for (int32_t m = 0; m < tile.m; ++m) FinishRow(tile, m, section, sums[m], columns, out + m * tile.out_stride);
  }
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_8x32c4_avx512_vnni = {
    "gemm_qd8_qs4cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs4cw,
    kMaxRows,
    kNr32,
    kKr4,
    PackedBytes<4>,
    Pack<4>,
    Run<4>,
};

const DynamicGemmKernel gemm_qd8_qs8cw_8x32c4_avx512_vnni = {
    "gemm_qd8_qs8cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs8cw,
    kMaxRows,
    kNr32,
    kKr4,
    PackedBytes<8>,
    Pack<8>,
    Run<8>,
};

}  // namespace tfq::int4
