// Rows that were quantized at run time and 8-bit weights on NEON without dot product.
#include "delegates/int4/kernels/neon/gemm_4c8_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  HasLowestWeight(tile.packed) ? RunDynamic4c8<AnyInt8Weights4c8>(shape, tile)
                               : RunDynamic4c8<Int8Weights4c8>(shape, tile);
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs8cw_4x4c8_neon = {
    "gemm_qd8_qs8cw_4x4c8_neon",
    CpuTier::kNeon,
    kQs8cw,
    kInt8Mr,
    kNr4,
    kKr8,
    PackedBytes4c8<Int8Weights4c8>,
    PackDynamic4c8<Int8Weights4c8>,
    Run,
};

}  // namespace tfq::int4
