#include "delegates/int4/ops/gemm.h"

namespace tfq::int4 {

const char* GemmName(const NodeView& view, const Options& options) {
  return ChooseGemm(options.cpu, FormatOf(view))->name;
}

GemmSplit SplitGemm(int64_t row_tiles, int32_t column_tiles, int64_t operations, int32_t threads) {
  if (threads == 1 || operations < kMinOperationsToShare) return {};
  const int32_t wanted = threads * kTasksPerThread;
  GemmSplit split;
  split.row_parts = static_cast<int32_t>(std::min<int64_t>(row_tiles, wanted));
  if (split.row_parts < threads) {
    split.column_parts = std::min(column_tiles, (threads + split.row_parts - 1) / split.row_parts);
  }
  return split;
}

void RunPlainGemm(const PackedGemm& gemm, const int8_t* input, ptrdiff_t input_stride, int64_t m, int8_t* output,
                  ptrdiff_t output_stride, const Workspace& workspace) {
  const int32_t mr = gemm.kernel->mr;
  RunGemm(gemm, m, output, output_stride, workspace, [&](int64_t first, int32_t count, const int8_t** rows, uint8_t*) {
    for (int32_t i = 0; i < mr; ++i) rows[i] = input + (first + std::min(i, count - 1)) * input_stride;
  });
}

}  // namespace tfq::int4
