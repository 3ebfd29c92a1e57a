// Static int8 rows and 4-bit weights on NEON without dot product: six rows by four output channels.
#include "delegates/int4/kernels/neon/gemm_4c8_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {

const GemmKernel gemm_qs8_qs4cw_6x4c8_neon = {
    "gemm_qs8_qs4cw_6x4c8_neon",
    CpuTier::kNeon,
    kQs4cw,
    kInt4Mr,
    kNr4,
    kKr8,
    PackedBytes4c8<Int4Weights4c8>,
    PackStatic4c8<Int4Weights4c8>,
    RunStatic4c8<Int4Weights4c8>,
};

}  // namespace tfq::int4
