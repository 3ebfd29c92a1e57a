// Convolutions, without a copy of the input in the form of a matrix: the kernel is given a pointer to the input row of
// each tap.
#include <cstring>

#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/window.h"

namespace tfq::int4 {
namespace {

// Kernels consume each tap's channels in groups of kr. With fewer channels than this, the groups' padding and the work
// of starting a tap cost more than copying the patch and treating it as one long tap.
constexpr int32_t kMinChannelsPerTap = 16;

bool BetterGathered(int32_t taps, int32_t channels) { return taps > 1 && channels < kMinChannelsPerTap; }

class Conv : public Op {
 public:
  Conv(const NodeView& view, const Options& options, std::vector<PackedGemm> groups, bool gather)
      : groups_(std::move(groups)),
        match_(options.match),
        params_(view.window),
        kernel_height_(view.weights()->dims->data[1]),
        kernel_width_(view.weights()->dims->data[2]),
        depth_(view.weights()->dims->data[3]),
        gather_(gather),
        padding_(static_cast<size_t>(depth_), static_cast<int8_t>(view.input()->params.zero_point)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    const int64_t channels = int64_t{depth_} * static_cast<int64_t>(groups_.size());
    if (input.size() != 4 || input[3] != channels) {
      return "input has " + std::to_string(input.empty() ? 0 : input.back()) + " channels, " +
             std::to_string(channels) + " expected";
    }
    std::string problem = window_.Plan(params_, input, kernel_height_, kernel_width_);
    if (!problem.empty()) return problem;
    *outputs = {{input[0], window_.out_height(), window_.out_width(), out_channels()}};
    if (groups_.size() == 1) {
      groups_.front().stage.rounding =
          RoundingOfProduct(match_, OpKind::kConv, groups_.front().kernel->weights.bits, window_.pixels(),
                            out_channels(), static_cast<int64_t>(PatchBytes()));
    }
    return "";
  }

  size_t scratch_bytes() const override {
    const PackedGemm& gemm = groups_.front();
    return GemmScratchBytes(gemm) +
           (gather_ ? static_cast<size_t>(gemm.kernel->mr) * static_cast<size_t>(gemm.shape.channels) : 0);
  }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const ptrdiff_t in_channels = ptrdiff_t{depth_} * static_cast<ptrdiff_t>(groups_.size());
    for (size_t i = 0; i < groups_.size(); ++i) {
      const PackedGemm& gemm = groups_[i];
      const int8_t* in = operands.input<int8_t>() + static_cast<ptrdiff_t>(i) * depth_;
      int8_t* out = operands.output<int8_t>() + static_cast<ptrdiff_t>(i) * gemm.shape.n;
      if (window_.is_identity()) {
        RunPlainGemm(gemm, in, in_channels, window_.pixels(), out, out_channels(), workspace);
      } else if (gather_) {
        RunGathered(gemm, in, out, workspace);
      } else {
        RunIndirect(gemm, in, out, workspace);
      }
    }
  }

 private:
  int32_t out_channels() const { return groups_.front().shape.n * static_cast<int32_t>(groups_.size()); }
  size_t PatchBytes() const { return static_cast<size_t>(kernel_height_) * kernel_width_ * depth_; }

  void RunIndirect(const PackedGemm& gemm, const int8_t* input, int8_t* output, const Workspace& workspace) const {
    const int32_t mr = gemm.kernel->mr;
    RunGemm(gemm, window_.pixels(), output, out_channels(), workspace,
            [&](int64_t first, int32_t count, const int8_t** rows, uint8_t*) {
              Window::Pixel pixel = window_.At(first);
              for (int32_t i = 0; i < count; ++i) {
                window_.TapRows(input, pixel, padding_.data(), mr, rows + i);
                window_.Advance(&pixel);
              }
              for (int32_t i = count; i < mr; ++i) {
                for (int32_t tap = 0; tap < gemm.shape.taps; ++tap) rows[tap * mr + i] = rows[tap * mr];
              }
            });
  }

  void RunGathered(const PackedGemm& gemm, const int8_t* input, int8_t* output, const Workspace& workspace) const {
    const int32_t mr = gemm.kernel->mr;
    const size_t patch_bytes = PatchBytes();
    const size_t patch_stride = static_cast<size_t>(gemm.shape.channels);  // zeros behind the patch
    RunGemm(gemm, window_.pixels(), output, out_channels(), workspace,
            [&](int64_t first, int32_t count, const int8_t** rows, uint8_t* scratch) {
              int8_t* patch = reinterpret_cast<int8_t*>(scratch);
              Window::Pixel pixel = window_.At(first);
              for (int32_t i = 0; i < count; ++i, patch += patch_stride) {
                window_.GatherPatch(input, pixel, padding_.data(), depth_, patch);
                std::memset(patch + patch_bytes, 0, patch_stride - patch_bytes);
                window_.Advance(&pixel);
                rows[i] = patch;
              }
              for (int32_t i = count; i < mr; ++i) rows[i] = rows[0];
            });
  }

  std::vector<PackedGemm> groups_;
  Match match_;
  WindowParams params_;
  int32_t kernel_height_;
  int32_t kernel_width_;
  int32_t depth_;  // input channels of a group
  bool gather_;
  std::vector<int8_t> padding_;  // a row of the input's zero point
  Window window_;
};

}  // namespace

std::unique_ptr<Op> MakeConv(const NodeView& view, const Options& options) {
  const int32_t* weight_dims = view.weights()->dims->data;
  const int32_t taps = weight_dims[1] * weight_dims[2];
  const int32_t depth = weight_dims[3];
  const int32_t group_count = view.input()->dims->data[3] / depth;
  const int32_t group_channels = view.out_channels() / group_count;
  const bool gather = BetterGathered(taps, depth);
  const OutputStage stage = MakeOutputStage(view, RoundingOfGroupedConv(options.match, view.weight_bits()));
  const ChannelScales scales = MakeChannelScales(view);
  const WeightValues values = ValuesOf(view);
  const GemmKernel* kernel = ChooseGemm(options.cpu, FormatOf(view));
  // A patch is padded to whole groups: kernels take their time over the ragged end of a row.
  const int32_t patch = taps * depth;
  const int32_t padded = (patch + kernel->kr - 1) / kernel->kr * kernel->kr;
  const GemmShape shape = {group_channels, gather ? 1 : taps, gather ? padded : depth};
  const bool copy = group_count > 1 || (gather && padded != patch);

  std::vector<PackedGemm> groups(static_cast<size_t>(group_count));
  for (int32_t i = 0; i < group_count; ++i) {
    const size_t channels = static_cast<size_t>(group_channels);
    std::vector<uint8_t> rows;
    if (copy) {
      rows = CopyRows(values, static_cast<size_t>(i) * channels * static_cast<size_t>(patch), channels,
                      static_cast<size_t>(patch), static_cast<size_t>(gather ? padded : patch));
    }
    const WeightValues of_group = copy ? WeightValues{rows.data(), values.bits} : values;
    if (!groups[static_cast<size_t>(i)].Pack(kernel, shape, stage,
                                             StaticWeights(view, scales, of_group, i * group_channels))) {
      return nullptr;
    }
  }
  return std::make_unique<Conv>(view, options, std::move(groups), gather);
}

}  // namespace tfq::int4
