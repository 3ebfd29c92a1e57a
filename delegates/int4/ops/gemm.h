// Tiles a matrix product over threads and over a kernel's rows and columns.
#ifndef TFQ_DELEGATES_INT4_OPS_GEMM_H_
#define TFQ_DELEGATES_INT4_OPS_GEMM_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/weights.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {

// Below this many multiplications a second thread costs more than it saves.
constexpr int64_t kMinOperationsToShare = 1 << 19;

// Tasks for each thread: enough that one that starts late finds less to do.
constexpr int32_t kTasksPerThread = 4;

// How one product is cut: row tiles first, columns too where there are few rows.
struct GemmSplit {
  int32_t row_parts = 1;
  int32_t column_parts = 1;
};
GemmSplit SplitGemm(int64_t row_tiles, int32_t column_tiles, int64_t operations, int32_t threads);

// Part `part` of 0..count-1 cut into `parts`: begins here, ends where the next begins.
constexpr int64_t PartBegin(int64_t count, int32_t part, int32_t parts) { return count * part / parts; }

// Memory of a thread: pointers to the rows of a tile, then what the kernel works in.
template <typename Kernel>
size_t GemmRowsBytes(const PackedMatrix<Kernel>& gemm) {
  const size_t rows = static_cast<size_t>(gemm.shape.taps) * static_cast<size_t>(gemm.kernel->mr);
  return RoundUp(sizeof(void*) * rows, kPackedAlignment);
}
template <typename Kernel>
size_t GemmScratchBytes(const PackedMatrix<Kernel>& gemm) {
  const bool none = gemm.kernel->scratch_bytes == nullptr;
  return GemmRowsBytes(gemm) + (none ? 0 : RoundUp(gemm.kernel->scratch_bytes(gemm.shape), kPackedAlignment));
}

// The stage of a tile that begins with row `row` of a matrix whose every row has its own.
template <typename Stage>
const Stage& StageOf(const Stage& stage, const GemmShape&, int64_t) {
  return stage;
}
inline DynamicStage StageOf(DynamicStage stage, const GemmShape& shape, int64_t row) {
  stage.rows += row;
  if (shape.block != 0) stage.block_sums += row * (shape.channels / shape.block);
  return stage;
}

// Writes the row pointers of a tile of one tap: rows of `input`, `stride` values apart. Those past `count` repeat the
// first.
template <typename In>
void PlainRows(const In* input, ptrdiff_t stride, int32_t count, int32_t mr, const In** rows) {
  const In* row = input;
#pragma GCC unroll 4
  for (int32_t i = 0; i < count; ++i, row += stride) rows[i] = row;
  for (int32_t i = count; i < mr; ++i) rows[i] = input;
}

// Calls tile(row, count) for rows first..last-1, `mr` at most at once and nearly the same number each time: a tile of a
// single row would read all the weights for little.
template <typename Tile>
void ForEachTile(int64_t first, int64_t last, int32_t mr, const Tile& tile) {
  const int32_t tiles = static_cast<int32_t>((last - first + mr - 1) / mr);
  for (int32_t i = 0; i < tiles; ++i) {
    const int64_t row = first + PartBegin(last - first, i, tiles);
    tile(row, static_cast<int32_t>(first + PartBegin(last - first, i + 1, tiles) - row));
  }
}

// Computes `m` rows of output. fill(first, count, rows, scratch) writes the row pointers of one tile, [taps][mr], those
// past `count` repeating a valid row; `scratch` is the thread's memory after GemmScratchBytes(). stage_at(first) is the
// stage of that tile.
template <typename Kernel, typename Fill, typename StageAt>
void RunGemm(const PackedMatrix<Kernel>& gemm, int64_t m, typename Kernel::Out* output, ptrdiff_t output_stride,
             const Workspace& workspace, const Fill& fill, const StageAt& stage_at) {
  const int32_t mr = gemm.kernel->mr;
  const int32_t nr = gemm.kernel->nr;
  const int32_t n = gemm.shape.n;
  const int64_t row_tiles = (m + mr - 1) / mr;
  const int32_t column_tiles = (n + nr - 1) / nr;
  const int64_t operations = m * n * gemm.shape.taps * gemm.shape.channels;
  const GemmSplit split = SplitGemm(row_tiles, column_tiles, operations, workspace.pool->threads());

  workspace.pool->Run(split.row_parts * split.column_parts, [&](int32_t task, int32_t thread) {
    uint8_t* scratch = workspace.scratch_of(thread);
    const typename Kernel::In** rows = reinterpret_cast<const typename Kernel::In**>(scratch);
    const int32_t row_part = task / split.column_parts;
    const int32_t column_part = task % split.column_parts;
    const int32_t n_begin = static_cast<int32_t>(PartBegin(column_tiles, column_part, split.column_parts)) * nr;
    const int32_t n_end =
        std::min(n, static_cast<int32_t>(PartBegin(column_tiles, column_part + 1, split.column_parts)) * nr);
    const int64_t first = PartBegin(row_tiles, row_part, split.row_parts) * mr;
    const int64_t last = std::min(m, PartBegin(row_tiles, row_part + 1, split.row_parts) * mr);
    ForEachTile(first, last, mr, [&](int64_t row, int32_t count) {
      fill(row, count, rows, scratch + GemmScratchBytes(gemm));
      gemm.kernel->run(gemm.shape,
                       {count, n_begin, n_end, rows, gemm.memory.data(), output + row * output_stride + n_begin,
                        output_stride, stage_at(row), scratch + GemmRowsBytes(gemm)});
    });
  });
}

// The product of plain rows of `input`, `input_stride` values apart.
template <typename Kernel>
void RunPlainGemm(const PackedMatrix<Kernel>& gemm, const typename Kernel::In* input, ptrdiff_t input_stride, int64_t m,
                  typename Kernel::Out* output, ptrdiff_t output_stride, const Workspace& workspace) {
  const int32_t mr = gemm.kernel->mr;
  RunGemm(
      gemm, m, output, output_stride, workspace,
      [&](int64_t first, int32_t count, const typename Kernel::In** rows, uint8_t*) {
        PlainRows(input + first * input_stride, input_stride, count, mr, rows);
      },
      [&](int64_t row) { return StageOf(gemm.stage, gemm.shape, row); });
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_GEMM_H_
