// The same values under other dimensions.
#include <cstring>

#include "delegates/int4/describe.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

class Reshape : public Op {
 public:
  explicit Reshape(Dims wanted) : wanted_(std::move(wanted)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    count_ = ElementsOf(inputs[0].data(), inputs[0].data() + inputs[0].size());
    Dims output = wanted_;
    int32_t* open = nullptr;
    int64_t known = 1;
    for (int32_t& size : output) {
      if (size == -1) {
        open = &size;
      } else {
        known *= size;
      }
    }
    if (open != nullptr && known > 0) *open = static_cast<int32_t>(count_ / known);
    if (ElementsOf(output.data(), output.data() + output.size()) != count_) {
      return "input of " + Number(count_) + " values does not become " +
             Shape(wanted_.data(), wanted_.data() + wanted_.size());
    }
    *outputs = {output};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  bool is_alias() const override { return true; }

  void Run(const Operands& operands, const Workspace&) override {
    std::memcpy(operands.output<int8_t>(), operands.input<int8_t>(), static_cast<size_t>(count_));
  }

 private:
  Dims wanted_;  // one of them may be -1: what is left
  int64_t count_ = 0;
};

}  // namespace

const char* CopyName(const NodeView&, const Options&) { return "copy"; }

std::unique_ptr<Op> MakeReshape(const NodeView& view, const Options&) {
  const abi::Tensor& shape = *view.constant(0);
  const int32_t* wanted = static_cast<const int32_t*>(shape.data);
  return std::make_unique<Reshape>(Dims(wanted, wanted + shape.dims->data[0]));
}

}  // namespace tfq::int4
