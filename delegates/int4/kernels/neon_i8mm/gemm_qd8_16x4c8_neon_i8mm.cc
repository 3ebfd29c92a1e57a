// Rows that were quantized at run time, on NEON with I8MM: weights of 4 and 8 bits, and of 4 bits in blocks. The sums
// of a block of inputs are integers; floating-point sums take them up with the block's scales.
#include "delegates/int4/kernels/neon/float_stage_neon.h"
#include "delegates/int4/kernels/neon_i8mm/gemm_16x4c8_neon_i8mm.h"
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

template <int32_t bits, int kPairs>
void RunPairs(const GemmShape shape, const DynamicGemmTile tile) {
  int8_t* a = static_cast<int8_t*>(tile.scratch);
  PairRows<kPairs>(shape, tile.rows, a);
  for (auto at = BlocksOf(kLayout<bits>, shape, tile); at.n < tile.n_end; at.Next()) {
    int32x4_t sums[2 * kPairs][1];
    SumBlock<bits, kPairs>(shape, a, at.packed, kZeros, sums);
    StoreChannelsNeon(sums, tile, ReadScaledSection(at.packed, kNr), tile.n_end - at.n, at.out);
  }
}

template <int kPairs>
void RunPairsInBlocks(const GemmShape shape, const DynamicGemmTile tile) {
  const BlockLayout layout = ScaledLayout(kLayout<4>, shape);
  const size_t groups = static_cast<size_t>(shape.block / kKr);
  int8_t* paired = static_cast<int8_t*>(tile.scratch);
  PairRows<kPairs>(shape, tile.rows, paired);
  for (auto at = BlocksOf(layout, shape, tile); at.n < tile.n_end; at.Next()) {
    const float* scales = ScalesOf(layout, at.packed);
    const uint8_t* group = at.packed + GroupsOffset(layout);
    const bool joined = IsJoined(layout, at.packed);
    const int8_t* a = paired;
    float32x4_t reals[2 * kPairs][1] = {};
    for (size_t block = 0; block < BlocksOf(shape); ++block) {
      int32x4_t sums[2 * kPairs][1];
      SumGroups<4, kPairs>(a, groups, group, joined, kZeros, sums);
      AddBlockNeon(sums, scales, reals);
      a += groups * kPairs * kPairBytes;
      group += groups * GroupBytes(layout);
      scales += kNr;
    }
    StoreBlocksNeon(reals, tile, ReadScaledSection(at.packed, kNr), tile.n_end - at.n, at.out);
  }
}

template <int32_t bits>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  constexpr void (*kByPairs[kMr / 2])(GemmShape, DynamicGemmTile) = {
      RunPairs<bits, 1>, RunPairs<bits, 2>, RunPairs<bits, 3>, RunPairs<bits, 4>,
      RunPairs<bits, 5>, RunPairs<bits, 6>, RunPairs<bits, 7>, RunPairs<bits, 8>};
  kByPairs[(tile.m - 1) / 2](shape, tile);
}

void RunInBlocks(const GemmShape& shape, const DynamicGemmTile& tile) {
  constexpr void (*kByPairs[kMr / 2])(GemmShape, DynamicGemmTile) = {
      RunPairsInBlocks<1>, RunPairsInBlocks<2>, RunPairsInBlocks<3>, RunPairsInBlocks<4>,
      RunPairsInBlocks<5>, RunPairsInBlocks<6>, RunPairsInBlocks<7>, RunPairsInBlocks<8>};
  kByPairs[(tile.m - 1) / 2](shape, tile);
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4cw_16x4c8_neon_i8mm = {
    "gemm_qd8_qs4cw_16x4c8_neon_i8mm",
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

const DynamicGemmKernel gemm_qd8_qs8cw_16x4c8_neon_i8mm = {
    "gemm_qd8_qs8cw_16x4c8_neon_i8mm",
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

const DynamicGemmKernel gemm_qd8_qs4b_16x4c8_neon_i8mm = {
    "gemm_qd8_qs4b_16x4c8_neon_i8mm",
    CpuTier::kNeonI8mm,
    kQs4b,
    kMr,
    kNr,
    kKr,
    PackedBytes<4>,
    Pack4,
    RunInBlocks,
    ScratchBytes,
};

}  // namespace tfq::int4
