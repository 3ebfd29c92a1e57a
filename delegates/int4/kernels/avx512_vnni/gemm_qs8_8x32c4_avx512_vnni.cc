// Matrix products on AVX-512 VNNI, of 4- and 8-bit weights.
#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  RunRows32c4<bits>(shape, tile, 0, tile.m, kMaxRows);
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_8x32c4_avx512_vnni = {
    "gemm_qs8_qs4cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs4cw,
    kMaxRows,
    kNr32,
    kKr4,
    PackedBytes32c4<4>,
    Pack32c4<4, Stored::kUnsigned>,
    Run<4>,
};

const GemmKernel gemm_qs8_qs8cw_8x32c4_avx512_vnni = {
    "gemm_qs8_qs8cw_8x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs8cw,
    kMaxRows,
    kNr32,
    kKr4,
    PackedBytes32c4<8>,
    Pack32c4<8, Stored::kUnsigned>,
    Run<8>,
};

}  // namespace tfq::int4
