// Rows of floating-point values made integers just before a product reads them.
#ifndef TFQ_DELEGATES_INT4_OPS_ROW_QUANTIZER_H_
#define TFQ_DELEGATES_INT4_OPS_ROW_QUANTIZER_H_

#include <cstdint>
#include <string>

#include "delegates/int4/aligned_buffer.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

class RowQuantizer {
 public:
  // Rows of `depth` values; with a block, the sums of each row's blocks too.
  RowQuantizer(const QuantizeKernel* kernel, int32_t depth, int32_t block)
      : kernel_(kernel), depth_(depth), block_(block) {}

  // Makes room for so many rows. Returns what is wrong, or nothing.
  std::string Plan(int64_t rows);

  // Quantizes the rows and points the stage to how.
  void Run(const float* input, const Workspace& workspace, DynamicStage* stage);

  // Rows of integers that one row becomes.
  int32_t digits() const { return kernel_->digits; }

  // What Run() made, [rows][digits][depth].
  const int8_t* values() const { return reinterpret_cast<const int8_t*>(values_.data()); }

 private:
  int32_t blocks() const { return block_ == 0 ? 0 : depth_ / block_; }

  const QuantizeKernel* kernel_;
  int32_t depth_;
  int32_t block_;
  int64_t rows_ = 0;
  AlignedBuffer values_;
  AlignedBuffer quantization_;
  AlignedBuffer block_sums_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_ROW_QUANTIZER_H_
