// Depthwise convolutions: every output channel sees one input channel.
#include <algorithm>

#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/window.h"

namespace tfq::int4 {
namespace {

// Row pointers of one tile: few enough that they stay in the nearest cache.
constexpr int32_t kMaxTilePointers = 512;
constexpr int32_t kMaxTilePixels = 64;

template <typename Kernel>
class Depthwise : public Op {
 public:
  using In = typename Kernel::In;
  using Out = typename Kernel::Out;

  Depthwise(const NodeView& view, PackedFilter<Kernel> filter)
      : filter_(std::move(filter)),
        params_(view.window),
        kernel_height_(view.weights()->dims->data[1]),
        kernel_width_(view.weights()->dims->data[2]),
        channels_(view.out_channels()),
        multiplier_(channels_ / view.input()->dims->data[3]),
        tile_pixels_(std::clamp(kMaxTilePointers / (kernel_height_ * kernel_width_), 1, kMaxTilePixels)),
        padding_(static_cast<size_t>(channels_), static_cast<In>(view.input()->params.zero_point)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    if (input.size() != 4 || int64_t{input[3]} * multiplier_ != channels_) {
      return "input has " + std::to_string(input.empty() ? 0 : input.back()) + " channels, " +
             std::to_string(channels_ / multiplier_) + " expected";
    }
    const Dims expanded_dims = {input[0], input[1], input[2], channels_};
    std::string problem = window_.Plan(params_, expanded_dims, kernel_height_, kernel_width_);
    if (!problem.empty()) return problem;
    input_rows_ = int64_t{input[0]} * input[1];
    row_pixels_ = input[2];
    if (multiplier_ > 1 && !expanded_.Allocate(sizeof(In) * static_cast<size_t>(input_rows_ * row_pixels_) *
                                               static_cast<size_t>(channels_))) {
      return "no memory for the input with its channels repeated";
    }
    *outputs = {{input[0], window_.out_height(), window_.out_width(), channels_}};
    return "";
  }

  size_t packed_bytes() const override { return filter_.memory.size; }

  size_t scratch_bytes() const override { return sizeof(In*) * static_cast<size_t>(tile_pixels_ * taps()); }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const In* input = operands.input<In>();
    Out* output = operands.output<Out>();
    if (multiplier_ > 1) {
      Expand(input, workspace);
      input = reinterpret_cast<const In*>(expanded_.data());
    }
    const int64_t pixels = window_.pixels();
    const int64_t tiles = (pixels + tile_pixels_ - 1) / tile_pixels_;
    const int32_t parts = SplitGemm(tiles, 1, pixels * channels_ * taps(), workspace.pool->threads()).row_parts;
    workspace.pool->Run(parts, [&](int32_t part, int32_t thread) {
      const In** rows = reinterpret_cast<const In**>(workspace.scratch_of(thread));
      const int64_t last = std::min(pixels, PartBegin(tiles, part + 1, parts) * tile_pixels_);
      for (int64_t first = PartBegin(tiles, part, parts) * tile_pixels_; first < last; first += tile_pixels_) {
        RunTile(input, first, static_cast<int32_t>(std::min<int64_t>(tile_pixels_, last - first)), output, rows);
      }
    });
  }

 private:
  int32_t taps() const { return kernel_height_ * kernel_width_; }

  void RunTile(const In* input, int64_t first, int32_t count, Out* output, const In** rows) const {
    window_.TapRows(input, first, count, padding_.data(), taps(), 1, rows);
    filter_.kernel->run(filter_.shape, {count, rows, filter_.memory.data(), output + first * channels_, channels_,
                                        filter_.stage, window_.RowOf(first)});
  }

  // Repeats each input channel as often as there are output channels that see it.
  void Expand(const In* input, const Workspace& workspace) const {
    const int32_t in_channels = channels_ / multiplier_;
    const int64_t row_values = int64_t{row_pixels_} * in_channels;
    In* expanded = reinterpret_cast<In*>(expanded_.data());
    const int32_t parts =
        SplitGemm(input_rows_, 1, input_rows_ * row_values * multiplier_, workspace.pool->threads()).row_parts;
    workspace.pool->Run(parts, [&](int32_t part, int32_t) {
      const int64_t begin = PartBegin(input_rows_, part, parts) * row_values;
      const int64_t end = PartBegin(input_rows_, part + 1, parts) * row_values;
      In* to = expanded + begin * multiplier_;
      for (int64_t i = begin; i < end; ++i, to += multiplier_) {
        std::fill_n(to, multiplier_, input[i]);
      }
    });
  }

  PackedFilter<Kernel> filter_;
  WindowParams params_;
  int32_t kernel_height_;
  int32_t kernel_width_;
  int32_t channels_;  // of the output
  int32_t multiplier_;
  int32_t tile_pixels_;
  std::vector<In> padding_;  // a row of the input's zero point
  int64_t input_rows_ = 0;
  int32_t row_pixels_ = 0;
  AlignedBuffer expanded_;
  Window window_;
};

}  // namespace

const char* DepthwiseName(const NodeView& view, const Options& options) {
  const WeightFormat format = FormatOf(view);
  return view.arithmetic() == Arithmetic::kWide ? ChooseWideDepthwise(options.cpu, format)->name
                                                : ChooseDepthwise(options.cpu, format)->name;
}

std::unique_ptr<Op> MakeDepthwise(const NodeView& view, const Options& options) {
  const int32_t width = view.weights()->dims->data[2];
  const DepthwiseShape shape = {view.weights()->dims->data[1] * width, view.out_channels(), width};
  if (view.arithmetic() == Arithmetic::kWide) {
    PackedFilter<WideDepthwiseKernel> filter;
    const std::vector<WideChannel> channels = MakeWideChannels(view);
    const bool packed = filter.Pack(options, ChooseWideDepthwise(options.cpu, FormatOf(view)), shape,
                                    MakeWideStage(view), {ValuesOf(view), channels.data()});
    return packed ? std::make_unique<Depthwise<WideDepthwiseKernel>>(view, std::move(filter)) : nullptr;
  }
  PackedFilter<DepthwiseKernel> filter;
  const ChannelScales scales = MakeChannelScales(view);
  const bool packed = filter.Pack(options, ChooseDepthwise(options.cpu, FormatOf(view)), shape,
                                  MakeOutputStage(view, RoundingOfDepthwise(options.match, view.weight_bits())),
                                  StaticWeights(view, scales, ValuesOf(view)));
  return packed ? std::make_unique<Depthwise<DepthwiseKernel>>(view, std::move(filter)) : nullptr;
}

}  // namespace tfq::int4
