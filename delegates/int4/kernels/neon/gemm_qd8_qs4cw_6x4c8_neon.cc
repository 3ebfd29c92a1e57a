// Rows that were quantized at run time and 4-bit weights on NEON without dot product.
#include "delegates/int4/kernels/neon/gemm_4c8_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {

const DynamicGemmKernel gemm_qd8_qs4cw_6x4c8_neon = {
    "gemm_qd8_qs4cw_6x4c8_neon",
    CpuTier::kNeon,
    kQs4cw,
    kInt4Mr,
    kNr4,
    kKr8,
    PackedBytes4c8<Int4Weights4c8>,
    PackDynamic4c8<Int4Weights4c8>,
    RunDynamic4c8<Int4Weights4c8>,
};

}  // namespace tfq::int4
