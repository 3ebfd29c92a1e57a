// Tensors of one scale side by side along an axis.
#include <cstring>

#include "delegates/int4/describe.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

class Concatenation : public Op {
 public:
  explicit Concatenation(int32_t axis) : axis_(axis) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const int32_t rank = static_cast<int32_t>(inputs[0].size());
    const int32_t axis = axis_ < 0 ? axis_ + rank : axis_;
    if (axis < 0 || axis >= rank) return "axis " + Number(axis_) + " of " + Number(rank) + " dimensions";
    Dims output = inputs[0];
    output[static_cast<size_t>(axis)] = 0;
    int64_t total = 0;
    pieces_.clear();
    for (const Dims& input : inputs) {
      for (int32_t i = 0; i < rank; ++i) {
        if (input.size() != inputs[0].size() ||
            (i != axis && input[static_cast<size_t>(i)] != output[static_cast<size_t>(i)])) {
          return "inputs differ in shape beside axis " + Number(axis);
        }
      }
      total += input[static_cast<size_t>(axis)];
      pieces_.push_back(ElementsOf(input.data() + axis, input.data() + rank));
    }
    if (total > INT32_MAX) return "output of " + Number(total) + " along axis " + Number(axis);
    output[static_cast<size_t>(axis)] = static_cast<int32_t>(total);
    rows_ = ElementsOf(output.data(), output.data() + axis);
    *outputs = {output};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace&) override {
    int8_t* out = operands.output<int8_t>();
    for (int64_t row = 0; row < rows_; ++row) {
      for (size_t i = 0; i < pieces_.size(); ++i) {
        std::memcpy(out, operands.input<int8_t>(static_cast<int32_t>(i)) + row * pieces_[i],
                    static_cast<size_t>(pieces_[i]));
        out += pieces_[i];
      }
    }
  }

 private:
  int32_t axis_;
  int64_t rows_ = 0;             // of everything before the axis
  std::vector<int64_t> pieces_;  // bytes of a row of each input
};

}  // namespace

std::unique_ptr<Op> MakeConcatenation(const NodeView& view, const Options&) {
  return std::make_unique<Concatenation>(view.axis);
}

}  // namespace tfq::int4
