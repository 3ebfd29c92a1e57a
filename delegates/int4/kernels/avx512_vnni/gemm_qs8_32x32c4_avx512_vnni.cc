// Matrix products on AVX-512 VNNI, of 4- and 8-bit weights.
#include "delegates/int4/kernels/avx512_vnni/gemm_32c4_avx512.h"
#include "delegates/int4/kernels/row_parts.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kMr = 4 * kMaxRows;

template <int32_t bits>
void Run(const GemmShape& shape, const GemmTile& tile) {
  const RowParts<kMr, kMaxRows> parts(tile.m);
  int32_t corrections[kMr];
  for (int32_t i = 0; i < parts.count; ++i) {
    const int32_t m = parts.begin[i];
    RowCorrections<bits>(shape, tile.rows + m, kMr, parts.begin[i + 1] - m, corrections + m);
  }
  const bool deep = int64_t{shape.taps} * shape.channels > kMaxDepth32c4<bits>;
  const int32_t ties_away_begin = TiesAwayBegin(tile.stage.rounding, shape.n);
  const size_t block_bytes = BlockBytes32c4<bits>(shape);
  const uint8_t* packed = static_cast<const uint8_t*>(tile.packed) + tile.n_begin / kNr32 * block_bytes;
  int8_t* out = tile.out;
  for (int32_t n = tile.n_begin; n < tile.n_end; n += kNr32, packed += block_bytes, out += kNr32) {
    const int32_t columns = tile.n_end - n < kNr32 ? tile.n_end - n : kNr32;
    const uint8_t* groups = packed + ChannelsBytesAvx512(kNr32);
    __m512i sums[kMr][2];
    for (int32_t i = 0; i < parts.count; ++i) {
      const int32_t m = parts.begin[i];
      SumColumns<bits>(shape, {tile.rows + m, kMr, corrections + m}, parts.begin[i + 1] - m, columns, deep, groups,
                       sums + m);
    }
    const TileBlock done = {ChannelsOf<kNr32>(packed), n, columns, ties_away_begin, tile.m, out};
    FinishBlock<false>(shape, tile, done, sums);
  }
}

}  // namespace

const GemmKernel gemm_qs8_qs4cw_32x32c4_avx512_vnni = {
    "gemm_qs8_qs4cw_32x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs4cw,
    kMr,
    kNr32,
    kKr4,
    PackedBytes32c4<4>,
    Pack32c4<4, Stored::kUnsigned>,
    Run<4>,
};

const GemmKernel gemm_qs8_qs8cw_32x32c4_avx512_vnni = {
    "gemm_qs8_qs8cw_32x32c4_avx512_vnni",
    CpuTier::kAvx512Vnni,
    kQs8cw,
    kMr,
    kNr32,
    kKr4,
    PackedBytes32c4<8>,
    Pack32c4<8, Stored::kUnsigned>,
    Run<8>,
};

}  // namespace tfq::int4
