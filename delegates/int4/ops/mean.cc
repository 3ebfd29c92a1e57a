// Mean over neighbouring axes: those of an image, or the last one.
#include "delegates/int4/ops/mean.h"

#include <algorithm>
#include <cmath>

#include "delegates/int4/describe.h"
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

// XNNPACK; the built-in kernel for the mean of an image that keeps the dimensions; the one for all others.
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

// The built-in kernel for the mean of an image, which keeps the dimensions.
bool IsOfImage(const NodeView& view) {
  Dims axes = MeanAxesOf(view);
  for (int32_t& axis : axes) axis = axis < 0 ? axis + view.input()->dims->size : axis;
  std::sort(axes.begin(), axes.end());
  return view.keep_num_dims && view.input()->dims->size == 4 && axes == Dims{1, 2};
}

class Mean : public Op {
 public:
  Mean(const NodeView& view, const Options& options)
      : kernel_(ChooseSumRows(options.cpu)),
        match_(view.match),
        axes_(MeanAxesOf(view)),
        keeps_dims_(view.keep_num_dims),
        way_(view.match == Match::kXnnpack ? Way::kFloat
             : IsOfImage(view)             ? Way::kBias
                                           : Way::kZeroPoint),
        input_(view.input()->params),
        output_(view.output()->params) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanMean(inputs[0], axes_, keeps_dims_, &plan_);
    if (!problem.empty()) return problem;
    *outputs = {plan_.output};
    scale_ = MeanScale(way_, input_, output_, static_cast<int32_t>(plan_.count));
    return "";
  }

  size_t scratch_bytes() const override {
    if (plan_.inner == 1) return sizeof(int8_t*) * static_cast<size_t>(plan_.count / kLanes);
    return sizeof(int8_t*) * static_cast<size_t>(plan_.count) + sizeof(int32_t) * static_cast<size_t>(plan_.inner);
  }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* in = operands.input<int8_t>();
    int8_t* out = operands.output<int8_t>();
    if (plan_.inner == 1) {
      ShareRange(workspace.pool, plan_.outer, 1, plan_.outer * plan_.count,
                 [&](int64_t begin, int64_t end, int32_t thread) {
                   for (int64_t i = begin; i < end; ++i) {
                     out[i] = scale_(SumOf(in + i * plan_.count, workspace.scratch_of(thread)), false);
                   }
                 });
      return;
    }
    const int64_t vector = VectorPart(match_, plan_.inner);
    const int64_t values = plan_.count * plan_.inner;
    for (int64_t i = 0; i < plan_.outer; ++i, in += values, out += plan_.inner) {
      ShareRange(workspace.pool, plan_.inner, kVectorBlock, values, [&](int64_t begin, int64_t end, int32_t thread) {
        const int8_t** rows = reinterpret_cast<const int8_t**>(workspace.scratch_of(thread));
        int32_t* sums = reinterpret_cast<int32_t*>(rows + plan_.count);
        for (int64_t row = 0; row < plan_.count; ++row) rows[row] = in + row * plan_.inner + begin;
        std::fill(sums, sums + (end - begin), 0);
        kernel_->run(rows, static_cast<int32_t>(plan_.count), static_cast<int32_t>(end - begin), sums);
        for (int64_t c = begin; c < end; ++c) out[c] = scale_(sums[c - begin], c < vector);
      });
    }
  }

 private:
  static constexpr int64_t kLanes = 64;  // values of a row that are summed up beside each other

  // Of plan_.count values in a row.
  int32_t SumOf(const int8_t* values, uint8_t* scratch) const {
    const int8_t** rows = reinterpret_cast<const int8_t**>(scratch);
    const int64_t count = plan_.count / kLanes;
    for (int64_t i = 0; i < count; ++i) rows[i] = values + i * kLanes;
    int32_t sums[kLanes] = {};
    if (count > 0) kernel_->run(rows, static_cast<int32_t>(count), kLanes, sums);
    int32_t sum = 0;
    for (const int32_t part : sums) sum += part;
    for (int64_t i = count * kLanes; i < plan_.count; ++i) sum += values[i];
    return sum;
  }

  const SumRowsKernel* kernel_;
  Match match_;
  Dims axes_;
  bool keeps_dims_;
  Way way_;
  abi::QuantizationParams input_;
  abi::QuantizationParams output_;
  MeanPlan plan_;
  MeanScale scale_;
};

}  // namespace

std::string PlanMean(const Dims& input, const Dims& axes, bool keep_dims, MeanPlan* plan) {
  constexpr int64_t kMostCount = 1 << 22;  // whose sum, less its zero points, fits 32 bits
  const int32_t rank = static_cast<int32_t>(input.size());
  std::vector<bool> reduced(input.size());
  const auto what = [&] { return "its axes are " + Shape(axes.data(), axes.data() + axes.size()); };
  for (const int32_t axis : axes) {
    if (axis < -rank || axis >= rank) return what() + ", of " + Number(rank);
    reduced[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = true;
  }
  const auto first = std::find(reduced.begin(), reduced.end(), true) - reduced.begin();
  if (first == rank) return "it has no axes";
  const auto end = reduced.rend() - std::find(reduced.rbegin(), reduced.rend(), true);
  *plan = {1, 1, 1, {}};
  for (int32_t axis = 0; axis < rank; ++axis) {
    const size_t i = static_cast<size_t>(axis);
    if (axis > first && axis < end && !reduced[i] && input[i] != 1) return what() + " (taken: neighbours)";
    (axis < first ? plan->outer : axis < end ? plan->count : plan->inner) *= input[i];
    if (!reduced[i] || keep_dims) plan->output.push_back(reduced[i] ? 1 : input[i]);
  }
  if (plan->count < 1 || plan->count > kMostCount) return "a mean of " + Number(plan->count) + " values";
  return "";
}

Dims MeanAxesOf(const NodeView& view) {
  const abi::Tensor& axes = *view.constant(0);
  const int32_t* values = static_cast<const int32_t*>(axes.data);
  return Dims(values, values + axes.bytes / sizeof(int32_t));
}

const char* MeanName(const NodeView&, const Options& options) { return ChooseSumRows(options.cpu)->name; }

std::unique_ptr<Op> MakeMean(const NodeView& view, const Options& options) {
  return std::make_unique<Mean>(view, options);
}

}  // namespace tfq::int4
