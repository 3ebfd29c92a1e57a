// Average and maximum over windows, whose padding counts for nothing.
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/share.h"
#include "delegates/int4/ops/window.h"

namespace tfq::int4 {
namespace {

// Quotient to the nearest integer, halves away from zero.
int32_t DivideRounding(int32_t sum, int32_t count) {
  return sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
}

class Pool : public Op {
 public:
  explicit Pool(const NodeView& view)
      : params_(view.window),
        filter_height_(view.filter_height),
        filter_width_(view.filter_width),
        stage_(MakeOutputStage(view, Rounding::kDouble)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    if (input.size() != 4) return "input has " + std::to_string(input.size()) + " dimensions, not 4";
    std::string problem = window_.Plan(params_, input, filter_height_, filter_width_);
    if (!problem.empty()) return problem;
    channels_ = input[3];
    *outputs = {{input[0], window_.out_height(), window_.out_width(), channels_}};
    return "";
  }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int64_t pixels = window_.pixels();
    ShareRange(workspace.pool, pixels, 1, pixels * channels_ * window_.taps(),
               [&](int64_t begin, int64_t end, int32_t thread) {
                 Window::Pixel pixel = window_.At(begin);
                 const int8_t** rows = reinterpret_cast<const int8_t**>(workspace.scratch_of(thread));
                 for (int64_t i = begin; i < end; ++i, window_.Advance(&pixel)) {
                   const int32_t count = window_.RowsInside(operands.input<int8_t>(), pixel, rows);
                   RunPixel(rows, count, workspace.scratch_of(thread) + pointer_bytes(),
                            operands.output<int8_t>() + i * channels_);
                 }
               });
  }

 protected:
  virtual void RunPixel(const int8_t* const* rows, int32_t count, uint8_t* scratch, int8_t* out) const = 0;

  size_t pointer_bytes() const { return sizeof(int8_t*) * static_cast<size_t>(window_.taps()); }
  int32_t channels() const { return channels_; }
  const OutputStage& stage() const { return stage_; }

 private:
  WindowParams params_;
  int32_t filter_height_;
  int32_t filter_width_;
  OutputStage stage_;
  int32_t channels_ = 0;
  Window window_;
};

class AveragePool : public Pool {
 public:
  AveragePool(const NodeView& view, const Options& options) : Pool(view), kernel_(ChooseSumRows(options.cpu)) {}

  size_t scratch_bytes() const override { return pointer_bytes() + sizeof(int32_t) * static_cast<size_t>(channels()); }

 protected:
  void RunPixel(const int8_t* const* rows, int32_t count, uint8_t* scratch, int8_t* out) const override {
    int32_t* sums = reinterpret_cast<int32_t*>(scratch);
    std::fill(sums, sums + channels(), 0);
    kernel_->run(rows, count, channels(), sums);
    for (int32_t c = 0; c < channels(); ++c) {
      out[c] = static_cast<int8_t>(std::clamp(DivideRounding(sums[c], count), stage().min, stage().max));
    }
  }

 private:
  const SumRowsKernel* kernel_;
};

class MaxPool : public Pool {
 public:
  MaxPool(const NodeView& view, const Options& options) : Pool(view), kernel_(ChooseMaxRows(options.cpu)) {}

  size_t scratch_bytes() const override { return pointer_bytes(); }

 protected:
  void RunPixel(const int8_t* const* rows, int32_t count, uint8_t*, int8_t* out) const override {
    kernel_->run(rows, count, channels(), static_cast<int8_t>(stage().min), static_cast<int8_t>(stage().max), out);
  }

 private:
  const MaxRowsKernel* kernel_;
};

}  // namespace

const char* AveragePoolName(const NodeView&, const Options& options) { return ChooseSumRows(options.cpu)->name; }
const char* MaxPoolName(const NodeView&, const Options& options) { return ChooseMaxRows(options.cpu)->name; }

std::unique_ptr<Op> MakeAveragePool(const NodeView& view, const Options& options) {
  return std::make_unique<AveragePool>(view, options);
}
std::unique_ptr<Op> MakeMaxPool(const NodeView& view, const Options& options) {
  return std::make_unique<MaxPool>(view, options);
}

}  // namespace tfq::int4
