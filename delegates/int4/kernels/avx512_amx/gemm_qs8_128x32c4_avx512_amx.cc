// Products of statically quantized rows on AMX.
#include "delegates/int4/kernels/avx512_amx/tiles_128x32c4_avx512_amx.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  RunTiles<bits>(
      shape, tile, {BlockBytes32c4<bits>(shape), ChannelsBytesAvx512(kNr32)},
      [](const uint8_t* block) { return reinterpret_cast<const int32_t*>(block); },
      [&](int32_t m, int32_t rows, const uint8_t* block, int32_t n, int32_t columns, const __m512i(*sums)[2]) {
        const TileBlock done = {ChannelsOf<kNr32>(block), n,    columns,
                                ties_away_begin,          rows, tile.out + m * tile.out_stride + (n - tile.n_begin)};
        FinishBlock<true>(shape, tile, done, sums);
      });
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_128x32c4_avx512_amx = {
    "gemm_qs8_qs4cw_128x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs4cw,
    kMr,
    kNr32,
    kKr4,
    PackedBytes32c4<4>,
    Pack32c4<4, Stored::kSigned>,
    Run<4>,
    ScratchBytes,
    kLeastRows,
    kLeastDepth,
};

const GemmKernel gemm_qs8_qs8cw_128x32c4_avx512_amx = {
    "gemm_qs8_qs8cw_128x32c4_avx512_amx",
    CpuTier::kAvx512Amx,
    kQs8cw,
    kMr,
    kNr32,
    kKr4,
    PackedBytes32c4<8>,
    Pack32c4<8, Stored::kSigned>,
    Run<8>,
    ScratchBytes,
    kLeastRows,
    kLeastDepth,
};

}  // namespace tfq::int4
