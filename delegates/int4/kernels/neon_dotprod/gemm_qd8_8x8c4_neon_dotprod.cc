// Rows that were quantized at run time, on NEON with dot product: weights of 4 and 8 bits, and of 4 bits in blocks. The
// sums of a block of inputs are integers; floating-point sums take them up with the block's scales.
#include "delegates/int4/kernels/neon/float_stage_neon.h"
#include "delegates/int4/kernels/neon_dotprod/gemm_8x8c4_neon_dotprod.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kZeros[kNr] = {};

static_assert(ScaledSectionBytes(kNr) == ChannelSectionBytes(kNr));

template <int32_t bits>
size_t PackedBytes(const GemmShape& shape) {
  return PackedBytesOf(ScaledLayout(kLayout<bits>, shape), shape);
}

void Pack8(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  PackBlocks(kLayout<8>, shape, source, packed);
}

void Pack4(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  PackJoinedBlocks(kLayout<4>, shape, source, packed);
}

template <int32_t bits, int kRows>
void RunRows(const GemmShape shape, const DynamicGemmTile tile) {
  for (auto at = BlocksOf(kLayout<bits>, shape, tile); at.n < tile.n_end; at.Next()) {
    int32x4_t sums[kRows][2];
    SumBlock<bits>(shape, tile.rows, at.packed, kZeros, sums);
    StoreChannelsNeon(sums, tile, ReadScaledSection(at.packed, kNr), tile.n_end - at.n, at.out);
  }
}

template <int kRows>
void RunRowsInBlocks(const GemmShape shape, const DynamicGemmTile tile) {
  const BlockLayout layout = ScaledLayout(kLayout<4>, shape);
  const GemmShape part = {shape.n, 1, shape.block};
  const size_t part_bytes = GroupsOf(layout, part) * GroupBytes(layout);
  for (auto at = BlocksOf(layout, shape, tile); at.n < tile.n_end; at.Next()) {
    const float* scales = ScalesOf(layout, at.packed);
    const uint8_t* group = at.packed + GroupsOffset(layout);
    const bool joined = IsJoined(layout, at.packed);
    float32x4_t reals[kRows][2] = {};
    for (int32_t c = 0; c < shape.channels; c += shape.block, group += part_bytes, scales += kNr) {
      const int8_t* rows[kMr];
      for (int m = 0; m < kMr; ++m) rows[m] = tile.rows[m] + c;
      int32x4_t sums[kRows][2];
      SumGroups<4>(part, rows, group, joined, kZeros, sums);
      AddBlockNeon(sums, scales, reals);
    }
    StoreBlocksNeon(reals, tile, ReadScaledSection(at.packed, kNr), tile.n_end - at.n, at.out);
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  constexpr void (*kByRows[kMr])(GemmShape, DynamicGemmTile) = {RunRows<bits, 1>, RunRows<bits, 2>, RunRows<bits, 3>,
                                                                RunRows<bits, 4>, RunRows<bits, 5>, RunRows<bits, 6>,
                                                                RunRows<bits, 7>, RunRows<bits, 8>};
  kByRows[tile.m - 1](shape, tile);
}

void RunInBlocks(const GemmShape& shape, const DynamicGemmTile& tile) {
  constexpr void (*kByRows[kMr])(GemmShape, DynamicGemmTile) = {
      RunRowsInBlocks<1>, RunRowsInBlocks<2>, RunRowsInBlocks<3>, RunRowsInBlocks<4>,
      RunRowsInBlocks<5>, RunRowsInBlocks<6>, RunRowsInBlocks<7>, RunRowsInBlocks<8>};
  kByRows[tile.m - 1](shape, tile);
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_8x8c4_neon_dotprod = {
    "gemm_qd8_qs4cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs4cw, kMr, kNr, kKr, PackedBytes<4>, Pack4, Run<4>,
};

const DynamicGemmKernel gemm_qd8_qs8cw_8x8c4_neon_dotprod = {
    "gemm_qd8_qs8cw_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs8cw, kMr, kNr, kKr, PackedBytes<8>, Pack8, Run<8>,
};

const DynamicGemmKernel gemm_qd8_qs4b_8x8c4_neon_dotprod = {
    "gemm_qd8_qs4b_8x8c4_neon_dotprod", CpuTier::kNeonDotprod, kQs4b, kMr, kNr, kKr, PackedBytes<4>, Pack4, RunInBlocks,
};

}  // namespace tfq::int4
