#include "delegates/int4/ops/row_quantizer.h"

#include "delegates/int4/ops/gemm.h"

namespace tfq::int4 {
namespace {

// A value costs about as much as so many multiplications of a product.
constexpr int64_t kOperationsPerValue = 8;

}  // namespace

std::string RowQuantizer::Plan(int64_t rows) {
  rows_ = rows;
  const size_t count = static_cast<size_t>(rows) * static_cast<size_t>(digits());
  const bool room = values_.Allocate(count * static_cast<size_t>(depth_)) &&
                    quantization_.Allocate(count * sizeof(RowQuantization)) &&
                    block_sums_.Allocate(count * static_cast<size_t>(blocks()) * sizeof(int32_t));
  return room ? "" : "no memory for the quantized input";
}

void RowQuantizer::Run(const float* input, const Workspace& workspace, DynamicStage* stage) {
  int8_t* values = reinterpret_cast<int8_t*>(values_.data());
  RowQuantization* quantization = reinterpret_cast<RowQuantization*>(quantization_.data());
  int32_t* block_sums = reinterpret_cast<int32_t*>(block_sums_.data());
  const int32_t parts = SplitGemm(rows_, 1, rows_ * depth_ * kOperationsPerValue, workspace.pool->threads()).row_parts;
  workspace.pool->Run(parts, [&](int32_t part, int32_t) {
    for (int64_t row = PartBegin(rows_, part, parts); row < PartBegin(rows_, part + 1, parts); ++row) {
      const int64_t to = row * digits();
      kernel_->run(input + row * depth_, depth_, block_, values + to * depth_, block_sums + to * blocks(),
                   quantization + to);
    }
  });
  stage->rows = quantization;
  stage->block_sums = block_sums;
}

}  // namespace tfq::int4
