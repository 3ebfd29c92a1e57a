// Softmax over the last axis.
#include "delegates/int4/ops/softmax.h"

#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

class Softmax : public Op {
 public:
  Softmax(const NodeView& view, const Options& options)
      : kernel_(ChooseLookup(options.cpu)), rows_of_(view.input()->params.scale * view.beta) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    columns_ = input.empty() ? 0 : input.back();
    if (columns_ < 1 || columns_ > kMostSoftmaxColumns) return "rows of " + std::to_string(columns_) + " values";
    rows_ = ElementsOf(input.data(), input.data() + input.size() - 1);
    *outputs = {input};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* in = operands.input<int8_t>();
    int8_t* out = operands.output<int8_t>();
    const int64_t operations = rows_ * columns_ * kOperations;
    ShareRange(workspace.pool, rows_, kSoftmaxRows, operations, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t row = begin; row < end; row += kSoftmaxRows) {
        const int32_t count = static_cast<int32_t>(std::min<int64_t>(kSoftmaxRows, end - row));
        rows_of_.Run(count, columns_, in + row * columns_, out + row * columns_, kernel_->run);
      }
    });
  }

 private:
  static constexpr int64_t kOperations = 16;  // multiplications that a value costs about as much as

  const LookupKernel* kernel_;
  SoftmaxRows<RuntimeSoftmax> rows_of_;
  int64_t rows_ = 0;
  int64_t columns_ = 0;
};

}  // namespace

std::unique_ptr<Op> MakeSoftmax(const NodeView& view, const Options& options) {
  return std::make_unique<Softmax>(view, options);
}

}  // namespace tfq::int4
