// Every kernel there is, one line each, defined in the file of the same name (docs/delegate-kernels.md has the grammar).
// A kernel joins the table in registry.cc and is thereby tested and measured.
#ifndef TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_
#define TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

extern const GemmKernel gemm_qs8_qs4cw_4x1c1_reference;
extern const DepthwiseKernel dwconv_qs8_qs4cw_1c1_reference;

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_VARIANTS_H_
