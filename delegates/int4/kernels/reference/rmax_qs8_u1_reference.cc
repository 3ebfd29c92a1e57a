// Maxima over rows, straight from the definition.
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int8_t min, int8_t max, int8_t* out) {
  for (int32_t c = 0; c < channels; ++c) {
    int8_t largest = rows[0][c];
    for (int32_t row = 1; row < count; ++row) largest = rows[row][c] > largest ? rows[row][c] : largest;
    out[c] = largest < min ? min : largest > max ? max : largest;
  }
}

}  // namespace

const MaxRowsKernel rmax_qs8_u1_reference = {"rmax_qs8_u1_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
