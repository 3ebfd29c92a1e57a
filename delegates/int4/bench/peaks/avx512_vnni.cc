#include <immintrin.h>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

struct Product {
  __m512i operator()(__m512i sum, __m512i a, __m512i b) const { return _mm512_dpbusd_epi32(sum, a, b); }
};

void Run(int64_t rounds) { RunProducts<Product>(rounds, _mm512_setzero_si512(), _mm512_set1_epi8(1)); }

}  // namespace

const ProductLoop kAvx512VnniProducts = {CpuTier::kAvx512Vnni, "vpdpbusd", 64 * kSums, Run};

}  // namespace tfq::int4
