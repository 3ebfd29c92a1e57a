// 32 table look-ups at a time by PSHUFB, which knows 16 entries and gives 0 for an index below zero.
//
// Piece i of the table is stored as its difference (XOR) from piece i - 1. An index of piece k meets the pieces 0..k
// with its lower four bits, after 16 has been taken off it i times, and the differences add up to piece k; for the
// pieces above k it is below zero. The two halves of the table are gone through in turn: saturation keeps the indices
// of the other half below zero.
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kPieces = 8;  // of a half

void MakeHalf(const int8_t* table, __m256i* half) {
  __m128i before = _mm_setzero_si128();
  for (int32_t i = 0; i < kPieces; ++i) {
    const __m128i piece = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i));
    half[i] = _mm256_broadcastsi128_si256(_mm_xor_si128(piece, before));
    before = piece;
  }
}

inline __m256i LookUp(__m256i index, const __m256i* half) {
  __m256i value = _mm256_shuffle_epi8(half[0], index);
  TFQ_UNROLL
  for (int32_t i = 1; i < kPieces; ++i) {
    index = _mm256_subs_epi8(index, _mm256_set1_epi8(16));
    value = _mm256_xor_si256(value, _mm256_shuffle_epi8(half[i], index));
  }
  return value;
}

void Run(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  __m256i negative[kPieces], positive[kPieces];
  MakeHalf(table, negative);
  MakeHalf(table + 128, positive);
  const __m256i flip = _mm256_set1_epi8(-128);
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
    const __m256i value = _mm256_xor_si256(LookUp(x, positive), LookUp(_mm256_xor_si256(x, flip), negative));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), value);
  }
  for (; i < count; ++i) out[i] = table[in[i] + 128];
}

}  // namespace

const LookupKernel vlut_qs8_u32_avx2 = {"vlut_qs8_u32_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
