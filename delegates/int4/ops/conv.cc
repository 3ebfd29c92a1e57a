// Convolutions, without a copy of the input in the form of a matrix: the kernel is given a pointer to the input row of
// each tap.
#include <algorithm>

#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/window.h"

namespace tfq::int4 {
namespace {

// Kernels consume each tap's channels in groups of kr. With fewer channels than this, the groups' padding and the work
// of starting a tap cost more than copying the patch and treating it as one long tap.
constexpr int32_t kMinChannelsPerTap = 16;

bool BetterGathered(int32_t taps, int32_t channels) { return taps > 1 && channels < kMinChannelsPerTap; }

// What convolutions of every arithmetic share: rows of a window that slides over an image.
template <typename Kernel>
class ConvBase : public Op {
 public:
  using In = typename Kernel::In;

  ConvBase(const NodeView& view, std::vector<PackedMatrix<Kernel>> groups, bool gather)
      : groups_(std::move(groups)),
        params_(view.window),
        kernel_height_(view.weights()->dims->data[1]),
        kernel_width_(view.weights()->dims->data[2]),
        depth_(view.weights()->dims->data[3]),
        gather_(gather) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    if (input.size() != 4 || input[3] != in_channels()) {
      return "input has " + std::to_string(input.empty() ? 0 : input.back()) + " channels, " +
             std::to_string(in_channels()) + " expected";
    }
    const std::string problem = Plan(input);
    if (!problem.empty()) return problem;
    *outputs = {{input[0], window_.out_height(), window_.out_width(), out_channels()}};
    return "";
  }

  size_t packed_bytes() const override {
    size_t bytes = 0;
    for (const PackedMatrix<Kernel>& gemm : groups_) bytes += gemm.memory.size;
    return bytes;
  }

  size_t scratch_bytes() const override {
    const PackedMatrix<Kernel>& gemm = groups_.front();
    return GemmScratchBytes(gemm) +
           (gather_ ? sizeof(In) * static_cast<size_t>(gemm.kernel->mr) * static_cast<size_t>(gemm.shape.channels) : 0);
  }

 protected:
  // Plans the window and what depends on it for an input of these dimensions. Returns what is wrong, or nothing.
  virtual std::string Plan(const Dims& input) = 0;

  std::string PlanWindow(const Dims& input) { return window_.Plan(params_, input, kernel_height_, kernel_width_); }
  ptrdiff_t in_channels() const { return ptrdiff_t{depth_} * static_cast<ptrdiff_t>(groups_.size()); }
  int32_t out_channels() const { return groups_.front().shape.n * static_cast<int32_t>(groups_.size()); }
  size_t PatchValues() const { return static_cast<size_t>(kernel_height_) * kernel_width_ * depth_; }

  // Of the whole planned window; `padding` is a row of what lies outside the image.
  template <typename StageAt>
  void Convolve(const In* input, const In* padding, typename Kernel::Out* output, const Workspace& workspace,
                const StageAt& stage_at) const {
    for (size_t i = 0; i < groups_.size(); ++i) {
      const PackedMatrix<Kernel>& gemm = groups_[i];
      const Rows rows = {*this, gemm, input + static_cast<ptrdiff_t>(i) * depth_, padding};
      typename Kernel::Out* out = output + static_cast<ptrdiff_t>(i) * gemm.shape.n;
      const auto run = [&](const auto& fill) {
        RunGemm(gemm, window_.pixels(), out, out_channels(), workspace, fill, stage_at);
      };
      if (window_.is_identity()) {
        run([&](int64_t first, int32_t count, const In** to, uint8_t*) { rows.Plain(first, count, to); });
      } else if (gather_) {
        run([&](int64_t first, int32_t count, const In** to, uint8_t* scratch) {
          rows.Gathered(first, count, to, reinterpret_cast<In*>(scratch));
        });
      } else {
        run([&](int64_t first, int32_t count, const In** to, uint8_t*) { rows.Indirect(first, count, to); });
      }
    }
  }

  std::vector<PackedMatrix<Kernel>> groups_;
  Window window_;

 private:
  // The rows of a tile of output pixels; those past `count` repeat a valid one.
  struct Rows {
    const ConvBase& conv;
    const PackedMatrix<Kernel>& gemm;
    const In* input;
    const In* padding;

    void Plain(int64_t first, int32_t count, const In** rows) const {
      const ptrdiff_t stride = conv.in_channels();
      PlainRows(input + first * stride, stride, count, gemm.kernel->mr, rows);
    }

    void Indirect(int64_t first, int32_t count, const In** rows) const {
      const int32_t mr = gemm.kernel->mr;
      conv.window_.TapRows(input, first, count, padding, 1, mr, rows);
      for (int32_t i = count; i < mr; ++i) {
        for (int32_t tap = 0; tap < gemm.shape.taps; ++tap) rows[tap * mr + i] = rows[tap * mr];
      }
    }

    void Gathered(int64_t first, int32_t count, const In** rows, In* patches) const {
      const ptrdiff_t stride = gemm.shape.channels;
      // Zeros behind each patch.
      if (conv.PatchValues() != static_cast<size_t>(stride)) std::fill_n(patches, count * stride, In{0});
      conv.window_.GatherPatches(input, first, count, padding, conv.depth_, stride, patches);
      PlainRows<In>(patches, stride, count, gemm.kernel->mr, rows);
    }
  };

  WindowParams params_;
  int32_t kernel_height_;
  int32_t kernel_width_;
  int32_t depth_;  // input channels of a group
  bool gather_;
};

class StaticConv : public ConvBase<GemmKernel> {
 public:
  StaticConv(const NodeView& view, Match match, std::vector<PackedGemm> groups, bool gather)
      : ConvBase(view, std::move(groups), gather),
        match_(match),
        padding_(static_cast<size_t>(in_channels()), static_cast<int8_t>(view.input()->params.zero_point)) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    Convolve(operands.input<int8_t>(), padding_.data(), operands.output<int8_t>(), workspace,
             [&](int64_t) { return groups_.front().stage; });
  }

 private:
  std::string Plan(const Dims& input) override {
    const std::string problem = PlanWindow(input);
    if (problem.empty() && groups_.size() == 1) {
      groups_.front().stage.rounding =
          RoundingOfProduct(match_, OpKind::kConv, groups_.front().kernel->weights.bits, window_.pixels(),
                            out_channels(), static_cast<int64_t>(PatchValues()));
    }
    return problem;
  }

  Match match_;
  std::vector<int8_t> padding_;  // a row of the input's zero point
};

class WideConv : public ConvBase<WideGemmKernel> {
 public:
  WideConv(const NodeView& view, std::vector<PackedMatrix<WideGemmKernel>> groups, bool gather)
      : ConvBase(view, std::move(groups), gather), padding_(static_cast<size_t>(in_channels()), 0) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    Convolve(operands.input<int16_t>(), padding_.data(), operands.output<int16_t>(), workspace,
             [&](int64_t) { return groups_.front().stage; });
  }

 private:
  std::string Plan(const Dims& input) override { return PlanWindow(input); }

  std::vector<int16_t> padding_;
};

// Each image of the batch is made int8 over its own range, with a zero point of its own.
class DynamicConv : public ConvBase<DynamicGemmKernel> {
 public:
  DynamicConv(const NodeView& view, PackedMatrix<DynamicGemmKernel> gemm, bool gather, const QuantizeKernel* quantize)
      : ConvBase(view, OneGroup(std::move(gemm)), gather),
        quantize_(quantize),
        padding_(static_cast<size_t>(in_channels())),
        rows_(static_cast<size_t>(groups_.front().kernel->mr)) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    int8_t* image = reinterpret_cast<int8_t*>(image_.data());
    DynamicStage stage = groups_.front().stage;
    stage.rows = rows_.data();
    const float* input = operands.input<float>();
    float* output = operands.output<float>();
    for (int32_t i = 0; i < batch_; ++i, input += image_values_, output += window_.pixels() * out_channels()) {
      quantize_->run(input, image_values_, 0, image, nullptr, rows_.data());
      std::fill(rows_.begin(), rows_.end(), rows_.front());
      std::fill(padding_.begin(), padding_.end(), static_cast<int8_t>(rows_.front().zero_point));
      Convolve(image, padding_.data(), output, workspace, [&](int64_t) { return stage; });
    }
  }

 private:
  static std::vector<PackedMatrix<DynamicGemmKernel>> OneGroup(PackedMatrix<DynamicGemmKernel> gemm) {
    std::vector<PackedMatrix<DynamicGemmKernel>> groups;
    groups.push_back(std::move(gemm));
    return groups;
  }

  std::string Plan(const Dims& input) override {
    const int64_t values = int64_t{input[1]} * input[2] * input[3];
    if (values > INT32_MAX) return "an image of more than 2^31 values";
    batch_ = input[0];
    image_values_ = static_cast<int32_t>(values);
    if (!image_.Allocate(static_cast<size_t>(values))) return "no memory for the quantized image";
    return PlanWindow({1, input[1], input[2], input[3]});
  }

  const QuantizeKernel* quantize_;
  std::vector<int8_t> padding_;
  std::vector<RowQuantization> rows_;  // of a tile: all the same
  int32_t batch_ = 0;
  int32_t image_values_ = 0;
  AlignedBuffer image_;
};

}  // namespace

std::unique_ptr<Op> MakeConv(const NodeView& view, const Options& options) {
  const int32_t* weight_dims = view.weights()->dims->data;
  const int32_t taps = weight_dims[1] * weight_dims[2];
  const int32_t depth = weight_dims[3];
  const int32_t group_count = view.input()->dims->data[3] / depth;
  const int32_t group_channels = view.out_channels() / group_count;
  const bool gather = BetterGathered(taps, depth);
  const WeightValues values = ValuesOf(view);
  const WeightFormat format = FormatOf(view);
  const GemmKernel* kernel = ChooseGemm(options.cpu, format, ExtentOf(view));
  const DynamicGemmKernel* dynamic_kernel = ChooseDynamicGemm(options.cpu, format, ExtentOf(view));
  const WideGemmKernel* wide_kernel = ChooseWideGemm(options.cpu, format);
  const bool dynamic = view.arithmetic() == Arithmetic::kDynamic;
  const bool wide = view.arithmetic() == Arithmetic::kWide;
  const int32_t kr = dynamic ? dynamic_kernel->kr : wide ? wide_kernel->kr : kernel->kr;
  // A patch is padded to whole groups: kernels take their time over the ragged end of a row.
  const int32_t patch = taps * depth;
  const int32_t padded = (patch + kr - 1) / kr * kr;
  const GemmShape shape = {group_channels, gather ? 1 : taps, gather ? padded : depth};
  const bool copy = group_count > 1 || (gather && padded != patch);
  std::vector<uint8_t> rows;
  const auto values_of = [&](int32_t group) {
    if (!copy) return values;
    const size_t channels = static_cast<size_t>(group_channels);
    rows = CopyRows(values, static_cast<size_t>(group) * channels * static_cast<size_t>(patch), channels,
                    static_cast<size_t>(patch), static_cast<size_t>(gather ? padded : patch));
    return WeightValues{rows.data(), values.bits};
  };

  if (dynamic) {
    PackedMatrix<DynamicGemmKernel> gemm;
    std::vector<float> scales;
    ScaledWeights weights = FloatScaledWeights(view, &scales);
    weights.values = values_of(0);
    const FloatStage range = MakeFloatStage(view);
    if (!gemm.Pack(options, dynamic_kernel, shape, {range.min, range.max, nullptr, nullptr}, weights)) {
      return nullptr;
    }
    return std::make_unique<DynamicConv>(view, std::move(gemm), gather, ChooseQuantize(options.cpu, 1));
  }
  if (wide) {
    const std::vector<WideChannel> channels = MakeWideChannels(view);
    std::vector<PackedMatrix<WideGemmKernel>> groups(static_cast<size_t>(group_count));
    for (int32_t i = 0; i < group_count; ++i) {
      const WideWeights weights = {values_of(i), channels.data() + i * group_channels};
      if (!groups[static_cast<size_t>(i)].Pack(options, wide_kernel, shape, MakeWideStage(view), weights)) {
        return nullptr;
      }
    }
    return std::make_unique<WideConv>(view, std::move(groups), gather);
  }
  const OutputStage stage = MakeOutputStage(view, RoundingOfGroupedConv(options.match, view.weight_bits()));
  const ChannelScales scales = MakeChannelScales(view);
  std::vector<PackedGemm> groups(static_cast<size_t>(group_count));
  for (int32_t i = 0; i < group_count; ++i) {
    if (!groups[static_cast<size_t>(i)].Pack(options, kernel, shape, stage,
                                             StaticWeights(view, scales, values_of(i), i * group_channels))) {
      return nullptr;
    }
  }
  return std::make_unique<StaticConv>(view, options.match, std::move(groups), gather);
}

}  // namespace tfq::int4
