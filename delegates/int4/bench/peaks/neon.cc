#include <arm_neon.h>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

struct Product {
  int16x8_t operator()(int16x8_t sum, int8x8_t a, int8x8_t b) const { return vmlal_s8(sum, a, b); }
};

void Run(int64_t rounds) { RunProducts<Product>(rounds, vdupq_n_s16(0), vdup_n_s8(1)); }

}  // namespace

const ProductLoop kNeonProducts = {CpuTier::kNeon, "smlal", 8 * kSums, Run};

}  // namespace tfq::int4
