// Mean over the rows and columns of an image.
#include <cmath>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

// XNNPACK; the built-in kernel that keeps the dimensions; the one that does not.
enum class Way { kFloat, kBias, kZeroPoint };

// How a sum of `pixels` values becomes a mean.
class MeanScale {
 public:
  MeanScale() = default;
  MeanScale(Way way, const abi::QuantizationParams& input, const abi::QuantizationParams& output, int32_t pixels)
      : way_(way), zero_point_(output.zero_point) {
    const float count = static_cast<float>(pixels);
    switch (way_) {
      case Way::kFloat:
        scale_ = input.scale / output.scale * (1.0f / count);
        offset_ = static_cast<float>(output.zero_point) - static_cast<float>(pixels * input.zero_point) * scale_;
        break;
      case Way::kBias: {
        const float zero = static_cast<float>(input.zero_point) * input.scale / output.scale;
        zero_point_ -= static_cast<int32_t>(zero > 0 ? zero + 0.5f : zero - 0.5f);
        QuantizeMultiplier(static_cast<double>(input.scale / (count * output.scale)), &multiplier_, &shift_);
        break;
      }
      case Way::kZeroPoint: {
        QuantizeMultiplier(static_cast<double>(input.scale) / static_cast<double>(output.scale), &multiplier_, &shift_);
        int32_t bits = 0;
        while (pixels >> (bits + 1) > 0) ++bits;
        bits = std::min(bits, 31 + shift_);
        multiplier_ = static_cast<int32_t>((int64_t{multiplier_} << bits) / pixels);
        shift_ -= bits;
        sum_offset_ = pixels * input.zero_point;
        break;
      }
    }
  }

  // `upward`: ties of the second rounding go upward, as in a vector loop of the built-in kernel.
  int8_t operator()(int32_t sum, bool upward) const {
    int32_t value;
    if (way_ == Way::kFloat) {
      const float scaled = static_cast<float>(sum) * scale_;
      value = static_cast<int32_t>(std::lrint(scaled + offset_));
    } else {
      const bool away = way_ == Way::kZeroPoint || !upward;
      value = MultiplyDoubleRounding(sum - sum_offset_, multiplier_, shift_, away) + zero_point_;
    }
    return static_cast<int8_t>(std::clamp(value, INT8_MIN, INT8_MAX));
  }

 private:
  Way way_ = Way::kFloat;
  int32_t zero_point_ = 0;
  int32_t multiplier_ = 0;
  int32_t shift_ = 0;
  int32_t sum_offset_ = 0;
  float scale_ = 0;
  float offset_ = 0;
};

class Mean : public Op {
 public:
  Mean(const NodeView& view, const Options& options)
      : kernel_(ChooseSumRows(options.cpu)),
        match_(view.match),
        keeps_dims_(view.keep_num_dims),
        way_(view.match == Match::kXnnpack ? Way::kFloat
             : view.keep_num_dims          ? Way::kBias
                                           : Way::kZeroPoint),
        input_(view.input()->params),
        output_(view.output()->params) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    if (input.size() != 4) return "input has " + std::to_string(input.size()) + " dimensions, not 4";
    const int64_t pixels = int64_t{input[1]} * input[2];
    if (pixels < 1 || pixels > kMaxPixels) return "a mean of " + std::to_string(pixels) + " values";
    images_ = input[0];
    pixels_ = static_cast<int32_t>(pixels);
    channels_ = input[3];
    *outputs = {keeps_dims_ ? Dims{input[0], 1, 1, input[3]} : Dims{input[0], input[3]}};
    scale_ = MeanScale(way_, input_, output_, pixels_);
    return "";
  }

  size_t scratch_bytes() const override {
    return sizeof(int8_t*) * static_cast<size_t>(pixels_) + sizeof(int32_t) * static_cast<size_t>(channels_);
  }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int64_t vector = VectorPart(match_, channels_);
    const int64_t image_values = int64_t{pixels_} * channels_;
    for (int64_t image = 0; image < images_; ++image) {
      const int8_t* in = operands.input<int8_t>() + image * image_values;
      int8_t* out = operands.output<int8_t>() + image * channels_;
      ShareRange(workspace.pool, channels_, kVectorBlock, image_values,
                 [&](int64_t begin, int64_t end, int32_t thread) {
                   const int8_t** rows = reinterpret_cast<const int8_t**>(workspace.scratch_of(thread));
                   int32_t* sums = reinterpret_cast<int32_t*>(rows + pixels_);
                   for (int32_t pixel = 0; pixel < pixels_; ++pixel)
                     rows[pixel] = in + int64_t{pixel} * channels_ + begin;
                   std::fill(sums, sums + (end - begin), 0);
                   kernel_->run(rows, pixels_, static_cast<int32_t>(end - begin), sums);
                   for (int64_t c = begin; c < end; ++c) out[c] = scale_(sums[c - begin], c < vector);
                 });
    }
  }

 private:
  static constexpr int64_t kMaxPixels = 1 << 22;  // whose sum, less its zero points, fits 32 bits

  const SumRowsKernel* kernel_;
  Match match_;
  bool keeps_dims_;
  Way way_;
  abi::QuantizationParams input_;
  abi::QuantizationParams output_;
  int64_t images_ = 0;
  int32_t pixels_ = 0;
  int32_t channels_ = 0;
  MeanScale scale_;
};

}  // namespace

const char* MeanName(const NodeView&, const Options& options) { return ChooseSumRows(options.cpu)->name; }

std::unique_ptr<Op> MakeMean(const NodeView& view, const Options& options) {
  return std::make_unique<Mean>(view, options);
}

}  // namespace tfq::int4
