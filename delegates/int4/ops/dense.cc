// Fully connected layers: rows of the input times the weights.
#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/op.h"

namespace tfq::int4 {
namespace {

class Dense : public Op {
 public:
  Dense(PackedGemm gemm, bool keep_num_dims, Match match)
      : gemm_(std::move(gemm)), keep_num_dims_(keep_num_dims), match_(match) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[0];
    const int32_t depth = gemm_.shape.channels;
    int64_t elements = 1;
    for (const int32_t size : input) elements *= size;
    if (input.empty()) return "input has no dimensions";
    if (elements % depth != 0 || (keep_num_dims_ && input.back() != depth)) {
      return std::to_string(elements) + " input values are no whole rows of " + std::to_string(depth);
    }
    rows_ = elements / depth;
    if (rows_ > INT32_MAX) return std::to_string(rows_) + " rows of input are too many";
    Dims output = keep_num_dims_ ? Dims(input.begin(), input.end() - 1) : Dims{static_cast<int32_t>(rows_)};
    output.push_back(gemm_.shape.n);
    *outputs = {output};
    gemm_.stage.rounding =
        RoundingOfProduct(match_, OpKind::kDense, gemm_.kernel->weights.bits, rows_, gemm_.shape.n, depth);
    return "";
  }

  size_t scratch_bytes() const override { return GemmRowsBytes(gemm_); }

  void Run(const Operands& operands, const Workspace& workspace) override {
    RunPlainGemm(gemm_, operands.input<int8_t>(), gemm_.shape.channels, rows_, operands.output<int8_t>(), gemm_.shape.n,
                 workspace);
  }

 private:
  PackedGemm gemm_;
  bool keep_num_dims_;
  Match match_;
  int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<Op> MakeDense(const NodeView& view, const Options& options) {
  const int32_t depth = view.weights()->dims->data[1];
  PackedGemm gemm;
  const bool packed =
      gemm.Pack(ChooseGemm(options.cpu, FormatOf(view)), {view.out_channels(), 1, depth},
                MakeOutputStage(view, Rounding::kDoubleUpward), view, MakeChannelScales(view), ValuesOf(view), 0);
  return packed ? std::make_unique<Dense>(std::move(gemm), view.keep_num_dims, options.match) : nullptr;
}

}  // namespace tfq::int4
