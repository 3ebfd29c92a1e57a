// Rows and columns of the zero point around an image. In front of a convolution it is folded into that (partition.cc).
#include "delegates/int4/ops/pad.h"

#include <algorithm>
#include <cstring>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {
namespace {

class Pad : public Op {
 public:
  explicit Pad(const NodeView& view)
      : padding_(PaddingOf(view)), value_(static_cast<int8_t>(view.output()->params.zero_point)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    if (input.size() != 4) return "input has " + std::to_string(input.size()) + " dimensions, not 4";
    const int64_t height = int64_t{input[1]} + padding_.top + padding_.bottom;
    const int64_t width = int64_t{input[2]} + padding_.left + padding_.right;
    if (std::max(height, width) > INT32_MAX) return "output of more than 2^31 rows or columns";
    input_ = input;
    *outputs = {{input[0], static_cast<int32_t>(height), static_cast<int32_t>(width), input[3]}};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace&) override {
    const int8_t* in = operands.input<int8_t>();
    int8_t* out = operands.output<int8_t>();
    const int64_t channels = input_[3];
    const int64_t row = input_[2] * channels;
    const int64_t left = padding_.left * channels, right = padding_.right * channels;
    const auto fill = [&](int64_t count) {
      std::memset(out, value_, static_cast<size_t>(count));
      out += count;
    };
    for (int32_t image = 0; image < input_[0]; ++image) {
      fill(padding_.top * (left + row + right));
      for (int32_t y = 0; y < input_[1]; ++y, in += row) {
        fill(left);
        std::memcpy(out, in, static_cast<size_t>(row));
        out += row;
        fill(right);
      }
      fill(padding_.bottom * (left + row + right));
    }
  }

 private:
  ImagePadding padding_;
  int8_t value_;
  Dims input_;
};

}  // namespace

ImagePadding PaddingOf(const NodeView& view) {
  const int32_t* amounts = static_cast<const int32_t*>(view.constant(0)->data);
  return {amounts[2], amounts[3], amounts[4], amounts[5]};
}

std::unique_ptr<Op> MakePad(const NodeView& view, const Options&) { return std::make_unique<Pad>(view); }

}  // namespace tfq::int4
