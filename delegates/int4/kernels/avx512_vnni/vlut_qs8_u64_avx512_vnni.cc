// 64 table look-ups at a time: the table is 128 words, VPERMI2W finds one of 64, and the lowest bit of an index chooses
// the byte of its word. Even and odd indices take turns.
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

struct Words {
  __m512i quarter[4];
};

// The word that holds the entry of each index, 0..255.
inline __m512i WordOf(__m512i index, const Words& table) {
  const __m512i word = _mm512_srli_epi16(index, 1);
  const __m512i lower = _mm512_permutex2var_epi16(table.quarter[0], word, table.quarter[1]);
  const __m512i upper = _mm512_permutex2var_epi16(table.quarter[2], word, table.quarter[3]);
  return _mm512_mask_blend_epi16(_mm512_test_epi16_mask(index, _mm512_set1_epi16(128)), lower, upper);
}

void Run(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  Words words;
  for (int32_t i = 0; i < 4; ++i) words.quarter[i] = _mm512_loadu_si512(table + 64 * i);
  const __m512i flip = _mm512_set1_epi8(-128);
  const __m512i eight = _mm512_set1_epi16(8);
  const __m512i lowest_byte = _mm512_set1_epi16(255);
  constexpr __mmask64 kOdd = 0xaaaaaaaaaaaaaaaa;
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i index = _mm512_xor_si512(_mm512_loadu_si512(in + i), flip);
    const __m512i even = _mm512_and_si512(index, lowest_byte), odd = _mm512_srli_epi16(index, 8);
    // The right byte of the word to the lower byte, or to the upper one.
    const __m512i down = _mm512_and_si512(_mm512_slli_epi16(even, 3), eight);
    const __m512i up = _mm512_andnot_si512(_mm512_slli_epi16(odd, 3), eight);
    const __m512i low = _mm512_srlv_epi16(WordOf(even, words), down);
    const __m512i high = _mm512_sllv_epi16(WordOf(odd, words), up);
    _mm512_storeu_si512(out + i, _mm512_mask_blend_epi8(kOdd, low, high));
  }
  for (; i < count; ++i) out[i] = table[in[i] + 128];
}

}  // namespace

const LookupKernel vlut_qs8_u64_avx512_vnni = {"vlut_qs8_u64_avx512_vnni", CpuTier::kAvx512Vnni, Run};

}  // namespace tfq::int4
