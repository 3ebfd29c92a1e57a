// Matrix products on NEON with dot product, of 4- and 8-bit weights.
#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon_dotprod/gemm_8x8c4_neon_dotprod.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return PackedBytesOf(kLayout<bits>, shape);
}

template <int32_t bits, int kRows>
void RunRows(const GemmShape shape, const GemmTile tile) {
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(kLayout<bits>, shape, tile); at.n < tile.n_end; at.Next()) {
    const int32_t* bias = reinterpret_cast<const int32_t*>(at.packed);
    int32x4_t sums[kRows][2];
    SumBlock<bits>(shape, tile.rows, at.packed, bias, sums);
    const ScaleNeon<2> scale(bias + kNr, bias + 2 * kNr, at.n, ties_away_begin);
    ScaleRowsNeon(sums, scale, scale.OnlyRight(), form);
    StoreRowsNeon(sums, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  constexpr void (*kByRows[kMr])(GemmShape, GemmTile) = {RunRows<bits, 1>, RunRows<bits, 2>, RunRows<bits, 3>,
                                                         RunRows<bits, 4>, RunRows<bits, 5>, RunRows<bits, 6>,
                                                         RunRows<bits, 7>, RunRows<bits, 8>};
  kByRows[tile.m - 1](shape, tile);
}

void Pack8(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(kLayout<8>, shape, source, packed);
}

void Pack4(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackJoinedBlocks(kLayout<4>, shape, source, packed);
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_8x8c4_neon_dotprod = {
    "gemm_qs8_qs4cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs4cw, kMr, kNr, kKr, PackedBytes<4>, Pack4, Run<4>,
};

const GemmKernel gemm_qs8_qs8cw_8x8c4_neon_dotprod = {
    "gemm_qs8_qs8cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs8cw, kMr, kNr, kKr, PackedBytes<8>, Pack8, Run<8>,
};

}  // namespace tfq::int4
