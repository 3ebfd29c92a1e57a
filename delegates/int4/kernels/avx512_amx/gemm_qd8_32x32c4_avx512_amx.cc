// Products of rows that were quantized at run time, on AMX.
#include "delegates/int4/kernels/avx512_amx/tiles_32x32c4_avx512_amx.h"
#include "delegates/int4/kernels/avx512_vnni/gemm_qd8_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  RunTiles<bits>(
      shape, tile, {ScaledBlockBytes32c4<bits>(shape), ScaledSectionBytes(kNr32)},
      [&](int32_t m_begin, int32_t rows) { RunScaledRows32c4<bits>(shape, tile, m_begin, rows, kMr); },
      [&](const uint8_t* block, int32_t n, int32_t columns, const __m512i(*sums)[2]) {
        FinishScaledBlock<bits == 4>(tile, 0, tile.m, block, columns, sums, tile.out + (n - tile.n_begin));
      });
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_32x32c4_avx512_amx = {
    "gemm_qd8_qs4cw_32x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs4cw,
    kMr,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<4>,
    ScaledPack32c4<4>,
    Run<4>,
    ScratchBytes,
    kTileRows,
    kStepBytes,
};

const DynamicGemmKernel gemm_qd8_qs8cw_32x32c4_avx512_amx = {
    "gemm_qd8_qs8cw_32x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs8cw,
    kMr,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<8>,
    ScaledPack32c4<8>,
    Run<8>,
    ScratchBytes,
    kTileRows,
    kStepBytes,
};

}  // namespace tfq::int4
