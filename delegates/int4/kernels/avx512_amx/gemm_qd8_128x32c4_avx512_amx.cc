// Products of rows that were quantized at run time, on AMX.
#include "delegates/int4/kernels/avx512_amx/tiles_128x32c4_avx512_amx.h"
#include "delegates/int4/kernels/avx512_vnni/gemm_qd8_32c4_avx512.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  alignas(64) static constexpr int32_t kZeros[kNr32] = {};
  RunTiles<bits>(
      shape, tile, {ScaledBlockBytes32c4<bits>(shape), ScaledSectionBytes(kNr32)},
      [](const uint8_t*) { return kZeros; },
      [&](int32_t m, int32_t rows, const uint8_t* block, int32_t n, int32_t columns, const __m512i(*sums)[2]) {
        FinishScaledBlock(tile, m, rows, block, columns, sums, tile.out + m * tile.out_stride + (n - tile.n_begin));
      });
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_128x32c4_avx512_amx = {
    "gemm_qd8_qs4cw_128x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs4cw,
    kMr,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<4>,
    ScaledPack32c4<4, Stored::kSigned>,
    Run<4>,
    ScratchBytes,
    kLeastRows,
    kLeastDepth,
};

const DynamicGemmKernel gemm_qd8_qs8cw_128x32c4_avx512_amx = {
    "gemm_qd8_qs8cw_128x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs8cw,
    kMr,
    kNr32,
    kKr4,
    ScaledPackedBytes32c4<8>,
    ScaledPack32c4<8, Stored::kSigned>,
    Run<8>,
    ScratchBytes,
    kLeastRows,
    kLeastDepth,
};

}  // namespace tfq::int4
