// Rows that were quantized at run time and 4-bit weights in blocks, on NEON without dot product. The sums of a block
// of inputs are integers; floating-point sums take them up with the block's scales.
#include "delegates/int4/kernels/neon/gemm_4c8_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

// A block of inputs: its scales, whether its weights are joined, weights.
constexpr size_t kScaleBytes = kNr4 * sizeof(float);
constexpr size_t kGroupsOffset = kScaleBytes + kJoinedFlagBytes;

size_t GroupsBytes(const GemmShape& shape) { return shape.block / kKr8 * kInt4GroupBytes; }

size_t PartBytes(const GemmShape& shape) { return kGroupsOffset + GroupsBytes(shape); }

size_t BytesOfBlock(const GemmShape& shape) { return ScaledSectionBytes(kNr4) + BlocksOf(shape) * PartBytes(shape); }

size_t PackedBytes(const GemmShape& shape) {
  return RoundUp(RoundUp(shape.n, kNr4) / kNr4 * BytesOfBlock(shape), kPackedAlignment);
}

void Pack(const GemmShape& shape, const ScaledWeights& source, void* packed) {
  std::memset(packed, 0, PackedBytes(shape));
  uint8_t* block = static_cast<uint8_t*>(packed);
  for (int32_t n = 0; n < shape.n; n += kNr4, block += BytesOfBlock(shape)) {
    WriteScaledSection(source, shape, n, kNr4, block);
    for (int32_t i = 0; i < kNr4 && n + i < shape.n; ++i) {
      uint8_t* part = block + ScaledSectionBytes(kNr4);
      size_t begin = size_t(n + i) * shape.channels;
      for (size_t b = 0; b < BlocksOf(shape); ++b, part += PartBytes(shape), begin += shape.block) {
        reinterpret_cast<float*>(part)[i] = ScaleAt(source, shape, n + i, b);
        PackChannel4c8<4>(source.values, begin, shape.block, i, part + kGroupsOffset);
      }
    }
    uint8_t* part = block + ScaledSectionBytes(kNr4);
    for (size_t b = 0; b < BlocksOf(shape); ++b, part += PartBytes(shape)) {
      part[kScaleBytes] = JoinNibbles(part + kGroupsOffset, GroupsBytes(shape));
    }
  }
}

template <int kRows = kInt4Mr>
void Run(const GemmShape& shape, const DynamicGemmTile& tile) {
  if constexpr (kRows > 1) {
    if (tile.m < kRows) return Run<kRows - 1>(shape, tile);
  }
  const uint8_t* block = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr4 * BytesOfBlock(shape);
  float* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr4, block += BytesOfBlock(shape), out += kNr4) {
    float32x4_t reals[kRows][1];
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) reals[m][0] = vdupq_n_f32(0);
    const uint8_t* part = block + ScaledSectionBytes(kNr4);
    for (int32_t c = 0; c < shape.channels; c += shape.block, part += PartBytes(shape)) {
      int32x4_t sums[kRows][1];
      TFQ_UNROLL
      for (int m = 0; m < kRows; ++m) sums[m][0] = vdupq_n_s32(0);
      AddInt4Taps(1, c, shape.block, tile.rows, part + kGroupsOffset, part[kScaleBytes] != 0, sums);
      AddBlockNeon(sums, reinterpret_cast<const float*>(part), reals);
    }
    StoreBlocksNeon(reals, tile, ReadScaledSection(block, kNr4), tile.n_end - n, out);
  }
}

}  // namespace

const DynamicGemmKernel gemm_qd8_qs4b_6x4c8_neon = {
    "gemm_qd8_qs4b_6x4c8_neon", CpuTier::kNeon, kQs4b, kInt4Mr, kNr4, kKr8, PackedBytes, Pack, Run<>,
};

}  // namespace tfq::int4
