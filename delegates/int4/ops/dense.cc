// Fully connected layers: rows of the input times the weights.
#include <algorithm>
#include <limits>

#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/row_quantizer.h"

namespace tfq::int4 {
namespace {

// What dense layers of every arithmetic share: the rows of their input.
template <typename Kernel>
class DenseBase : public Op {
 public:
  DenseBase(PackedMatrix<Kernel> gemm, bool keep_num_dims) : gemm_(std::move(gemm)), keep_num_dims_(keep_num_dims) {}

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
    return PlanRows();
  }

  size_t packed_bytes() const override { return gemm_.memory.size; }

  size_t scratch_bytes() const override { return GemmScratchBytes(gemm_); }

 protected:
  // What depends on the number of rows. Returns what is wrong, or nothing.
  virtual std::string PlanRows() = 0;

  void Multiply(const typename Kernel::In* rows, typename Kernel::Out* output, const Workspace& workspace) const {
    RunPlainGemm(gemm_, rows, gemm_.shape.channels, rows_, output, gemm_.shape.n, workspace);
  }

  PackedMatrix<Kernel> gemm_;
  bool keep_num_dims_;
  int64_t rows_ = 0;
};

class StaticDense : public DenseBase<GemmKernel> {
 public:
  StaticDense(PackedGemm gemm, bool keep_num_dims, Match match)
      : DenseBase(std::move(gemm), keep_num_dims), match_(match) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    Multiply(operands.input<int8_t>(), operands.output<int8_t>(), workspace);
  }

 private:
  std::string PlanRows() override {
    gemm_.stage.rounding = RoundingOfProduct(match_, OpKind::kDense, gemm_.kernel->weights.bits, rows_, gemm_.shape.n,
                                             gemm_.shape.channels);
    return "";
  }

  Match match_;
};

class WideDense : public DenseBase<WideGemmKernel> {
 public:
  using DenseBase::DenseBase;

  void Run(const Operands& operands, const Workspace& workspace) override {
    Multiply(operands.input<int16_t>(), operands.output<int16_t>(), workspace);
  }

 private:
  std::string PlanRows() override { return ""; }
};

class DynamicDense : public DenseBase<DynamicGemmKernel> {
 public:
  DynamicDense(PackedMatrix<DynamicGemmKernel> gemm, bool keep_num_dims, const QuantizeKernel* quantize)
      : DenseBase(std::move(gemm), keep_num_dims), quantizer_(quantize, gemm_.shape.channels, gemm_.shape.block) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    quantizer_.Run(operands.input<float>(), workspace, &gemm_.stage);
    Multiply(quantizer_.values(), operands.output<float>(), workspace);
  }

 private:
  std::string PlanRows() override { return quantizer_.Plan(rows_); }

  RowQuantizer quantizer_;
};

// Floating-point rows as 24-bit integers: the product of each of a row's three digits is that of dynamic layers, and
// the three add up.
class WeightOnlyDense : public DenseBase<DynamicGemmKernel> {
 public:
  WeightOnlyDense(PackedMatrix<DynamicGemmKernel> gemm, bool keep_num_dims, const QuantizeKernel* quantize,
                  std::vector<float> bias, const FloatStage& range)
      : DenseBase(std::move(gemm), keep_num_dims),
        quantizer_(quantize, gemm_.shape.channels, gemm_.shape.block),
        bias_(std::move(bias)),
        range_(range) {}

  void Run(const Operands& operands, const Workspace& workspace) override {
    quantizer_.Run(operands.input<float>(), workspace, &gemm_.stage);
    float* products = reinterpret_cast<float*>(products_.data());
    RunPlainGemm(gemm_, quantizer_.values(), gemm_.shape.channels, rows_ * quantizer_.digits(), products, gemm_.shape.n,
                 workspace);
    AddDigits(products, operands.output<float>());
  }

 private:
  std::string PlanRows() override {
    const size_t products = static_cast<size_t>(rows_ * quantizer_.digits()) * static_cast<size_t>(gemm_.shape.n);
    if (!products_.Allocate(products * sizeof(float))) return "no memory for the products of the digits";
    return quantizer_.Plan(rows_);
  }

  static_assert(kDigits == 3, "AddDigits() adds up three");
  void AddDigits(const float* products, float* output) const {
    const ptrdiff_t n = gemm_.shape.n;
    for (int64_t row = 0; row < rows_; ++row, products += n * quantizer_.digits(), output += n) {
      for (ptrdiff_t i = 0; i < n; ++i) {
        const float sum = products[i] + products[n + i] + products[2 * n + i] + bias_[static_cast<size_t>(i)];
        output[i] = std::min(std::max(sum, range_.min), range_.max);
      }
    }
  }

  RowQuantizer quantizer_;
  std::vector<float> bias_;
  FloatStage range_;
  AlignedBuffer products_;
};

}  // namespace

std::unique_ptr<Op> MakeDense(const NodeView& view, const Options& options) {
  const int32_t depth = view.weights()->dims->data[1];
  const GemmShape shape = {view.out_channels(), 1, depth, view.has_blocks() ? view.weight_blocks().block_size : 0};
  const WeightFormat format = FormatOf(view);
  switch (view.arithmetic()) {
    case Arithmetic::kStatic: {
      PackedGemm gemm;
      const ChannelScales scales = MakeChannelScales(view);
      const bool packed =
          gemm.Pack(options, ChooseGemm(options.cpu, format, ExtentOf(view)), shape,
                    MakeOutputStage(view, Rounding::kDoubleUpward), StaticWeights(view, scales, ValuesOf(view)));
      return packed ? std::make_unique<StaticDense>(std::move(gemm), view.keep_num_dims, options.match) : nullptr;
    }
    case Arithmetic::kWide: {
      PackedMatrix<WideGemmKernel> gemm;
      const std::vector<WideChannel> channels = MakeWideChannels(view);
      const bool packed = gemm.Pack(options, ChooseWideGemm(options.cpu, format), shape, MakeWideStage(view),
                                    {ValuesOf(view), channels.data()});
      return packed ? std::make_unique<WideDense>(std::move(gemm), view.keep_num_dims) : nullptr;
    }
    case Arithmetic::kDynamic: {
      PackedMatrix<DynamicGemmKernel> gemm;
      std::vector<float> scales;
      const FloatStage range = MakeFloatStage(view);
      const bool packed = gemm.Pack(options, ChooseDynamicGemm(options.cpu, format, ExtentOf(view)), shape,
                                    {range.min, range.max, nullptr, nullptr}, FloatScaledWeights(view, &scales));
      if (!packed) return nullptr;
      return std::make_unique<DynamicDense>(std::move(gemm), view.keep_num_dims, ChooseQuantize(options.cpu, 1));
    }
    case Arithmetic::kWeightOnly: {
      PackedMatrix<DynamicGemmKernel> gemm;
      std::vector<float> scales;
      ScaledWeights weights = FloatScaledWeights(view, &scales);
      std::vector<float> bias(static_cast<size_t>(shape.n), 0.0f);
      if (weights.bias != nullptr) std::copy(weights.bias, weights.bias + shape.n, bias.begin());
      // Bias and activation come after the digits have been added up.
      weights.bias = nullptr;
      constexpr float kNoLimit = std::numeric_limits<float>::infinity();
      if (!gemm.Pack(options, ChooseDynamicGemm(options.cpu, format, ExtentOf(view)), shape,
                     {-kNoLimit, kNoLimit, nullptr, nullptr}, weights)) {
        return nullptr;
      }
      return std::make_unique<WeightOnlyDense>(std::move(gemm), view.keep_num_dims,
                                               ChooseQuantize(options.cpu, kDigits), std::move(bias),
                                               MakeFloatStage(view));
    }
  }
  return nullptr;
}

}  // namespace tfq::int4
