// Matrix products between 16-bit activations on AVX-512 VNNI: VPDPWSSD.
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/variants.h"
#include "delegates/int4/kernels/wide_gemm.h"

namespace tfq::int4 {
namespace {

struct Avx512 {
  using Sums = __m512i;
  using Row = __m512i;
  struct Weights {
    __m512i of[2];
  };
  static constexpr int32_t kLanes = 16;
  static constexpr int32_t kRows = 8;
  static constexpr int32_t kTogether = 1;
  static constexpr int32_t kKr = 2;
  static constexpr int32_t kSteps = 1;
  static constexpr auto kApplyStage = ApplyWideRows;

  static __m512i Zero() { return _mm512_setzero_si512(); }
  static __m512i LoadRow(const int16_t* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static __m512i LoadPart(const int16_t* from, int32_t) { return _mm512_set1_epi32(static_cast<uint16_t>(*from)); }
  template <int>
  static void Add(const Weights& weights, __m512i pair, __m512i (&sums)[2]) {
    for (int i = 0; i < 2; ++i) sums[i] = _mm512_dpwssd_epi32(sums[i], weights.of[i], pair);
  }

  static int32_t PlaceOf(int32_t n, int32_t k) { return n * kKr + k; }
  static __m512i LoadBytes(const uint8_t* from) {
    return _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(from)));
  }
  template <int32_t bits>
  static Weights Load(const uint8_t* from) {
    const __m512i bytes = LoadBytes(from);
    if (bits == 8) return {{bytes, LoadBytes(from + 32)}};
    return {{_mm512_srai_epi16(_mm512_slli_epi16(bytes, 12), 12), _mm512_srai_epi16(bytes, 4)}};
  }

  static void AddTo(__m512i sums, int64_t* wide) {
    __m512i* to = reinterpret_cast<__m512i*>(wide);
    to[0] = _mm512_add_epi64(to[0], _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums)));
    to[1] = _mm512_add_epi64(to[1], _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sums, 1)));
  }
};

}  // namespace

const WideGemmKernel gemm_qs16_qs4cw_8x32c2_avx512_vnni =
    WideGemm<Avx512, 4>::Kernel("gemm_qs16_qs4cw_8x32c2_avx512_vnni", CpuTier::kAvx512Vnni);

const WideGemmKernel gemm_qs16_qs8cw_8x32c2_avx512_vnni =
    WideGemm<Avx512, 8>::Kernel("gemm_qs16_qs8cw_8x32c2_avx512_vnni", CpuTier::kAvx512Vnni);

}  // namespace tfq::int4
