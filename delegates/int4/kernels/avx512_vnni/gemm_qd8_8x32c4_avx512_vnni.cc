// Products of rows that were quantized at run time, on AVX-512 VNNI.
#include "delegates/int4/kernels/avx512_vnni/gemm_qd8_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  RunScaledRows32c4<bits>(shape, tile, 0, tile.m, kMaxRows);
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_8x32c4_avx512_vnni = {
    "gemm_qd8_qs4cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs4cw,
    kMaxRows,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<4>,
    ScaledPack32c4<4, Stored::kUnsigned>,
    Run<4>,
};

const DynamicGemmKernel gemm_qd8_qs8cw_8x32c4_avx512_vnni = {
    "gemm_qd8_qs8cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs8cw,
    kMaxRows,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<8>,
    ScaledPack32c4<8, Stored::kUnsigned>,
    Run<8>,
};

}  // namespace tfq::int4
