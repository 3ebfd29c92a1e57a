// From the sums of a block of 16 output channels to the outputs, for the matrix products on AVX2.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_FINISH_16_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_FINISH_16_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"

namespace tfq::int4 {

constexpr int32_t kNr16 = 16;

// One block of output channels of a tile.
struct TileBlock {
  const int32_t* bias;  // multipliers and shifts follow
  int32_t n;            // first channel
  int32_t columns;
  int32_t ties_away_begin;
  const int32_t* corrections;  // of each row: to be taken off its sums
  int8_t* out;
};

static inline void StoreColumns(__m128i bytes, int32_t columns, int8_t* to) {
  if (columns == kNr16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  } else {
    alignas(16) int8_t part[kNr16];
    _mm_store_si128(reinterpret_cast<__m128i*>(part), bytes);
    std::memcpy(to, part, columns);
  }
}

// Two rows at a time: their bytes are narrowed together.
template <StageForm form>
static void FinishForm(const GemmTile& tile, const TileBlock& block, const __m256i (*sums)[2]) {
  __m256i bias[2];
  ScaleAvx2 scales[2];
  TFQ_UNROLL
  for (int v = 0; v < 2; ++v) {
    bias[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(block.bias + 8 * v));
    scales[v] = MakeScaleOfForm<form>(block.bias + kNr16 + 8 * v, block.bias + 2 * kNr16 + 8 * v, block.n + 8 * v,
                                      block.ties_away_begin, tile.stage);
  }
  const __m256i least = _mm256_set1_epi8(static_cast<int8_t>(tile.stage.min));
  const __m256i most = _mm256_set1_epi8(static_cast<int8_t>(tile.stage.max));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int32_t m = 0; m < tile.m; m += 2) {
    const int32_t second = m + 1 < tile.m ? m + 1 : m;
    __m256i words[2];
    TFQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int32_t row = i == 0 ? m : second;
      const __m256i correction = _mm256_set1_epi32(block.corrections[row]);
      __m256i values[2];
      TFQ_UNROLL
      for (int v = 0; v < 2; ++v) {
        const __m256i sum = _mm256_add_epi32(_mm256_sub_epi32(sums[row][v], correction), bias[v]);
        values[v] = ApplyStageOfForm<form>(sum, scales[v], tile.stage);
      }
      words[i] = _mm256_packs_epi32(values[0], values[1]);
    }
    const __m256i clamped = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(words[0], words[1]), least), most);
    const __m256i rows = _mm256_permutevar8x32_epi32(clamped, in_order);
    int8_t* to = block.out + m * tile.out_stride;
    StoreColumns(_mm256_castsi256_si128(rows), block.columns, to);
    if (second != m) StoreColumns(_mm256_extracti128_si256(rows, 1), block.columns, to + tile.out_stride);
  }
}

static inline void FinishBlock16(const GemmShape& shape, const GemmTile& tile, const TileBlock& block,
                                 const __m256i (*sums)[2]) {
  const int32_t* multiplier = block.bias + kNr16;
  switch (StageFormAvx2(multiplier, multiplier + kNr16, 2, shape.n, block.n + block.columns, tile.stage)) {
    case StageForm::kShort:
      return FinishForm<StageForm::kShort>(tile, block, sums);
    case StageForm::kGeneral:
      return FinishForm<StageForm::kGeneral>(tile, block, sums);
    case StageForm::kAway:
      return FinishForm<StageForm::kAway>(tile, block, sums);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_FINISH_16_AVX2_H_
