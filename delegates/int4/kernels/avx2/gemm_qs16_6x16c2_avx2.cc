// Matrix products between 16-bit activations on AVX2: VPMADDWD.
#include <immintrin.h>

#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_gemm.h"

namespace tfq::int4 {
namespace {

struct Avx2 {
  using Sums = __m256i;
  using Row = __m256i;
  struct Weights {
    __m256i of[2];
  };
  static constexpr int32_t kLanes = 8;
  static constexpr int32_t kRows = 6;
  static constexpr int32_t kTogether = 1;
  static constexpr int32_t kKr = 2;
  static constexpr int32_t kSteps = 1;
  static constexpr auto kApplyStage = ApplyWideRows;

  static __m256i Zero() { return _mm256_setzero_si256(); }
  static __m256i LoadRow(const int16_t* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static __m256i LoadPart(const int16_t* from, int32_t) { return _mm256_set1_epi32(static_cast<uint16_t>(*from)); }
  template <int>
  static void Add(const Weights& weights, __m256i pair, __m256i (&sums)[2]) {
    for (int i = 0; i < 2; ++i) sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(weights.of[i], pair));
  }

  static int32_t PlaceOf(int32_t n, int32_t k) { return n * kKr + k; }
  static __m256i LoadBytes(const uint8_t* from) {
    return _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(from)));
  }
  template <int32_t bits>
  static Weights Load(const uint8_t* from) {
    const __m256i bytes = LoadBytes(from);
    if (bits == 8) return {{bytes, LoadBytes(from + 16)}};
    return {{_mm256_srai_epi16(_mm256_slli_epi16(bytes, 12), 12), _mm256_srai_epi16(bytes, 4)}};
  }

  static void AddTo(__m256i sums, int64_t* wide) {
    __m256i* to = reinterpret_cast<__m256i*>(wide);
    to[0] = _mm256_add_epi64(to[0], _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums)));
    to[1] = _mm256_add_epi64(to[1], _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sums, 1)));
  }
};

}  // namespace

const WideGemmKernel gemm_qs16_qs4cw_6x16c2_avx2 =
    WideGemm<Avx2, 4>::Kernel("gemm_qs16_qs4cw_6x16c2_avx2", CpuTier::kAvx2);

const WideGemmKernel gemm_qs16_qs8cw_6x16c2_avx2 =
    WideGemm<Avx2, 8>::Kernel("gemm_qs16_qs8cw_6x16c2_avx2", CpuTier::kAvx2);

}  // namespace tfq::int4
