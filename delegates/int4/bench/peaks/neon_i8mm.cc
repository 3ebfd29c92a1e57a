#include <arm_neon.h>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

struct Product {
  int32x4_t operator()(int32x4_t sum, int8x16_t a, int8x16_t b) const { return vmmlaq_s32(sum, a, b); }
};

void Run(int64_t rounds) { RunProducts<Product>(rounds, vdupq_n_s32(0), vdupq_n_s8(1)); }

}  // namespace

const ProductLoop kNeonI8mmProducts = {CpuTier::kNeonI8mm, "smmla", 32 * kSums, Run};

}  // namespace tfq::int4
