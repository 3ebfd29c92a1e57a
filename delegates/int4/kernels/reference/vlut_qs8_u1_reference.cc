// One table look-up a value.
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = table[in[i] + 128];
}

}  // namespace

const LookupKernel vlut_qs8_u1_reference = {"vlut_qs8_u1_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
