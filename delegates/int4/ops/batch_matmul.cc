// Products of two activations, matrix by matrix: attention. The second factor becomes 8-bit weights when it is there.
#include "delegates/int4/ops/batch_matmul.h"

#include <cstring>

#include "delegates/int4/describe.h"
#include "delegates/int4/ops/byte_transpose.h"
#include "delegates/int4/ops/gemm.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

// Weights have no zero point. Here the second factor has one, whose part, -zero_point times the sum of a row, is that
// of constant weights: taps that read the same row once more. 128 takes two of them.
int32_t ConstantTaps(int32_t zero_point) { return zero_point == 0 ? 0 : zero_point == INT8_MIN ? 2 : 1; }

class BatchMatmul : public Op {
 public:
  BatchMatmul(const NodeView& view, const Options& options, const GemmKernel* kernel)
      : kernel_(kernel),
        adjoint_second_(view.adjoint[1]),
        first_zero_point_(view.input(0)->params.zero_point),
        second_zero_point_(view.input(1)->params.zero_point),
        stage_(MakeOutputStage(view, RoundingOfMatmul(options.match, second_zero_point_))) {
    // The runtime multiplies the scales in float32.
    const float product = view.input(0)->params.scale * view.input(1)->params.scale;
    QuantizeMultiplier(static_cast<double>(product) / static_cast<double>(view.output()->params.scale), &multiplier_,
                       &shift_);
  }

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanMatmul(inputs[0], inputs[1], adjoint_second_, &plan_);
    if (!problem.empty()) return problem;
    Dims output = inputs[0];
    output.back() = plan_.n;
    *outputs = {output};
    shape_ = {plan_.n, 1 + ConstantTaps(second_zero_point_), plan_.k};
    multipliers_.assign(static_cast<size_t>(plan_.n), multiplier_);
    shifts_.assign(static_cast<size_t>(plan_.n), shift_);
    return "";
  }

  size_t scratch_bytes() const override { return ParametersOf().total; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* a = operands.input<int8_t>(0);
    const int8_t* b = operands.input<int8_t>(1);
    int8_t* out = operands.output<int8_t>();
    const int64_t a_size = int64_t{plan_.m} * plan_.k, b_size = int64_t{plan_.k} * plan_.n;
    const int64_t out_size = int64_t{plan_.m} * plan_.n;
    // Where there are fewer matrices than threads, each is cut into rows, and every part packs for itself.
    const int64_t tiles = (plan_.m + kernel_->mr - 1) / kernel_->mr;
    const int32_t threads = workspace.pool->threads();
    const int32_t parts = plan_.matrices >= threads ? 1 : static_cast<int32_t>(std::min<int64_t>(tiles, threads));
    const int64_t operations = plan_.matrices * a_size * plan_.n * shape_.taps;
    ShareRange(workspace.pool, plan_.matrices * parts, 1, operations, [&](int64_t begin, int64_t end, int32_t thread) {
      uint8_t* scratch = workspace.scratch_of(thread);
      int64_t packed = -1;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t matrix = i / parts;
        const int32_t part = static_cast<int32_t>(i % parts);
        if (matrix != packed) Pack(b + matrix * b_size, scratch);
        packed = matrix;
        const int64_t first = PartBegin(tiles, part, parts) * kernel_->mr;
        const int64_t last = std::min<int64_t>(plan_.m, PartBegin(tiles, part + 1, parts) * kernel_->mr);
        Multiply(a + matrix * a_size, first, last, scratch, out + matrix * out_size);
      }
    });
  }

 private:
  // A thread's memory: pointers to rows, what the kernel works in, the second factor as weights, and those packed.
  struct Parameters {
    size_t kernel;
    size_t values;
    size_t packed;
    size_t total;
  };
  Parameters ParametersOf() const {
    const size_t taps = static_cast<size_t>(shape_.taps);
    const size_t kernel = RoundUp(sizeof(void*) * taps * static_cast<size_t>(kernel_->mr), kPackedAlignment);
    const size_t scratch = kernel_->scratch_bytes == nullptr ? 0 : kernel_->scratch_bytes(shape_);
    const size_t values = kernel + RoundUp(scratch, kPackedAlignment);
    const size_t weights = static_cast<size_t>(plan_.n) * taps * static_cast<size_t>(plan_.k);
    const size_t packed = values + RoundUp(weights, kPackedAlignment);
    return {kernel, values, packed, RoundUp(packed + kernel_->packed_bytes(shape_), kPackedAlignment)};
  }

  void Pack(const int8_t* b, uint8_t* scratch) const {
    const Parameters at = ParametersOf();
    int8_t* values = reinterpret_cast<int8_t*>(scratch + at.values);
    const size_t k = static_cast<size_t>(plan_.k), n = static_cast<size_t>(plan_.n);
    const int32_t constants = shape_.taps - 1;
    const int32_t constant = constants == 0 ? 0 : -second_zero_point_ / constants;
    const size_t row_bytes = k * static_cast<size_t>(shape_.taps);
    if (!adjoint_second_) {
      TransposeBytes(plan_.k, plan_.n, {b, plan_.n}, {values, static_cast<int64_t>(row_bytes)});
    }
    for (size_t i = 0; i < n; ++i) {
      int8_t* row = values + i * row_bytes;
      if (adjoint_second_) std::memcpy(row, b + i * k, k);
      std::memset(row + k, constant, row_bytes - k);
    }
    const WeightSource source = {
        {reinterpret_cast<const uint8_t*>(values), 8}, nullptr, multipliers_.data(), shifts_.data(), first_zero_point_};
    kernel_->pack(shape_, source, scratch + at.packed);
  }

  void Multiply(const int8_t* a, int64_t first, int64_t last, uint8_t* scratch, int8_t* out) const {
    const Parameters at = ParametersOf();
    const int8_t** rows = reinterpret_cast<const int8_t**>(scratch);
    const int32_t mr = kernel_->mr;
    ForEachTile(first, last, mr, [&](int64_t row, int32_t count) {
      for (int32_t i = 0; i < shape_.taps * mr; ++i) rows[i] = a + (row + std::min(i % mr, count - 1)) * plan_.k;
      kernel_->run(shape_, {count, 0, plan_.n, rows, scratch + at.packed, out + row * plan_.n, plan_.n, stage_,
                            scratch + at.kernel});
    });
  }

  const GemmKernel* kernel_;
  bool adjoint_second_;
  int32_t first_zero_point_;
  int32_t second_zero_point_;
  OutputStage stage_;
  int32_t multiplier_ = 0;
  int32_t shift_ = 0;
  MatmulPlan plan_;
  GemmShape shape_ = {};
  std::vector<int32_t> multipliers_;  // of each column the same
  std::vector<int32_t> shifts_;
};

const GemmKernel* KernelFor(const NodeView& view, const Options& options) {
  const abi::IntArray& dims = *view.input(0)->dims;
  return ChooseGemm(options.cpu, kQs8cw, {dims.end()[-2], dims.end()[-1]});
}

}  // namespace

std::string PlanMatmul(const Dims& a, const Dims& b, bool adjoint_second, MatmulPlan* plan) {
  const auto what = [&] {
    return "it multiplies " + Shape(a.data(), a.data() + a.size()) + " by " + Shape(b.data(), b.data() + b.size());
  };
  if (a.size() < 2 || a.size() != b.size() || !std::equal(a.begin(), a.end() - 2, b.begin())) {
    return what() + " (taken: as many matrices on both sides)";
  }
  const int32_t b_rows = b.end()[-2], b_columns = b.end()[-1];
  *plan = {ElementsOf(a.data(), a.data() + a.size() - 2), a.end()[-2], a.end()[-1],
           adjoint_second ? b_rows : b_columns};
  if (plan->k != (adjoint_second ? b_columns : b_rows)) return what() + ", which do not fit";
  if (plan->k < 1 || plan->n < 1) return what() + ", which are empty";
  // Sums stay within 32 bits, and memory for a matrix within reason.
  constexpr int64_t kMostDepth = 1 << 15, kMostValues = 1 << 28;
  if (plan->k > kMostDepth || int64_t{plan->k} * plan->n > kMostValues) return what() + ", which are too large";
  return "";
}

const char* BatchMatmulName(const NodeView& view, const Options& options) { return KernelFor(view, options)->name; }

std::unique_ptr<Op> MakeBatchMatmul(const NodeView& view, const Options& options) {
  return std::make_unique<BatchMatmul>(view, options, KernelFor(view, options));
}

}  // namespace tfq::int4
