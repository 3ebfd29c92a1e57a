// Sums over rows, straight from the definition.
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int32_t* sums) {
  for (int32_t row = 0; row < count; ++row) {
    for (int32_t c = 0; c < channels; ++c) sums[c] += rows[row][c];
  }
}

}  // namespace

const SumRowsKernel rsum_qs8_u1_reference = {"rsum_qs8_u1_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
