// Matrix products on NEON with I8MM, of 4- and 8-bit weights.
#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/neon_i8mm/gemm_16x4c8_neon_i8mm.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return PackedBytesOf(kLayout<bits>, shape);
}

template <int32_t bits, int kPairs>
void RunPairs(const GemmShape shape, const GemmTile tile) {
  int8_t* a = static_cast<int8_t*>(tile.scratch);
  PairRows<kPairs>(shape, tile.rows, a);
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const RoundingForm form = FormOf(tile.stage.rounding, shape.n, tile.n_end);
  const StageNeon stage(tile.stage);
  for (auto at = BlocksOf(kLayout<bits>, shape, tile); at.n < tile.n_end; at.Next()) {
    const int32_t* bias = reinterpret_cast<const int32_t*>(at.packed);
    int32x4_t sums[2 * kPairs][1];
    SumBlock<bits, kPairs>(shape, a, at.packed, bias, sums);
    const ScaleNeon<1> scale(bias + kNr, bias + 2 * kNr, at.n, ties_away_begin);
    ScaleRowsNeon(sums, scale, scale.OnlyRight(), form);
    StoreFoursNeon(sums, stage, tile.m, tile.n_end - at.n, at.out, tile.out_stride);
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  constexpr void (*kByPairs[kMr / 2])(GemmShape, GemmTile) = {RunPairs<bits, 1>, RunPairs<bits, 2>, RunPairs<bits, 3>,
                                                              RunPairs<bits, 4>, RunPairs<bits, 5>, RunPairs<bits, 6>,
                                                              RunPairs<bits, 7>, RunPairs<bits, 8>};
  kByPairs[(tile.m - 1) / 2](shape, tile);
}

void Pack8(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackBlocks(kLayout<8>, shape, source, packed);
}

void Pack4(const GemmShape& shape, const WeightSource& source, void* packed) {
  PackJoinedBlocks(kLayout<4>, shape, source, packed);
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_16x4c8_neon_i8mm = {
    "gemm_qs8_qs4cw_16x4c8_neon_i8mm",
    CpuTier::kNeonI8mm,
    kQs4cw,
    kMr,
    kNr,
    kKr,
    PackedBytes<4>,
    Pack4,
    Run<4>,
    ScratchBytes,
};

const GemmKernel gemm_qs8_qs8cw_16x4c8_neon_i8mm = {
    "gemm_qs8_qs8cw_16x4c8_neon_i8mm",
    CpuTier::kNeonI8mm,
    kQs8cw,
    kMr,
    kNr,
    kKr,
    PackedBytes<8>,
    Pack8,
    Run<8>,
    ScratchBytes,
};

}  // namespace tfq::int4
