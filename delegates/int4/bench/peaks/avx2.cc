#include <immintrin.h>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

struct Product {
  __m256i operator()(__m256i sum, __m256i a, __m256i b) const {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
  }
};

void Run(int64_t rounds) { RunProducts<Product>(rounds, _mm256_setzero_si256(), _mm256_set1_epi8(1)); }

}  // namespace

const ProductLoop kAvx2Products = {CpuTier::kAvx2, "vpmaddubsw, vpaddw", 32 * kSums, Run};

}  // namespace tfq::int4
