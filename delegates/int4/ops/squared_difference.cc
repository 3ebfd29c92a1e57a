// Squares of differences, which decomposed normalizations consist of: a table of all pairs of values, made once.
#include <algorithm>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/broadcast.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kValues = 256;
constexpr int32_t kLeftShift = 7;

// A real factor in fixed point.
struct Factor {
  explicit Factor(double real) { QuantizeMultiplier(real, &multiplier, &shift); }
  int32_t operator()(int32_t x) const { return MultiplyDoubleRounding(x, multiplier, shift, true); }
  int32_t multiplier, shift;
};

std::vector<int8_t> MakeTable(const NodeView& view) {
  const abi::QuantizationParams &a = view.input(0)->params, &b = view.input(1)->params, &out = view.output()->params;
  const double twice = static_cast<double>(2 * std::max(a.scale, b.scale));
  const Factor scale_a(static_cast<double>(a.scale) / twice), scale_b(static_cast<double>(b.scale) / twice);
  const Factor scale_out(twice * twice / static_cast<double>(static_cast<float>(1 << (2 * kLeftShift)) * out.scale));
  int32_t first[kValues];
  for (int32_t x = 0; x < kValues; ++x) first[x] = scale_a((x + INT8_MIN - a.zero_point) * (1 << kLeftShift));
  std::vector<int8_t> table(kValues * kValues);
  int8_t* row = table.data();
  for (int32_t y = INT8_MIN; y <= INT8_MAX; ++y, row += kValues) {
    const int32_t second = scale_b((y - b.zero_point) * (1 << kLeftShift));
    for (int32_t x = 0; x < kValues; ++x) {
      const int32_t difference = first[x] - second;
      const int32_t value = scale_out(difference * difference) + out.zero_point;
      row[x] = static_cast<int8_t>(std::clamp<int32_t>(value, INT8_MIN, INT8_MAX));
    }
  }
  return table;
}

class SquaredDifference : public Op {
 public:
  explicit SquaredDifference(const NodeView& view) : table_(MakeTable(view)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanBroadcast(inputs[0], inputs[1], &plan_);
    if (problem.empty()) *outputs = {plan_.output};
    return problem;
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* a = operands.input<int8_t>(0);
    const int8_t* b = operands.input<int8_t>(1);
    int8_t* out = operands.output<int8_t>();
    const int64_t columns = plan_.columns, first_step = plan_.first_step, second_step = plan_.second_step;
    const int8_t* table = table_.data();
    ShareRange(
        workspace.pool, plan_.rows, 1, plan_.rows * columns * kOperations, [=](int64_t begin, int64_t end, int32_t) {
          for (int64_t row = begin; row < end; ++row) {
            const BroadcastRow at = plan_.Row(row);
            LookUp(table, columns, {a + at.first, first_step}, {b + at.second, second_step}, out + row * columns);
          }
        });
  }

 private:
  static constexpr int64_t kOperations = 16;  // multiplications that a value costs about as much as

  struct Values {
    const int8_t* data;
    int64_t step;
  };

  static void LookUp(const int8_t* table, int64_t count, const Values& a, const Values& b, int8_t* out) {
    const int8_t* middle = table + (0 - INT8_MIN) * (kValues + 1);
    for (int64_t i = 0; i < count; ++i) out[i] = middle[b.data[i * b.step] * kValues + a.data[i * a.step]];
  }

  std::vector<int8_t> table_;  // [second + 128][first + 128]
  BroadcastPlan plan_;
};

}  // namespace

const char* LookupPairsName(const NodeView&, const Options&) { return "table of pairs"; }

std::unique_ptr<Op> MakeSquaredDifference(const NodeView& view, const Options&) {
  return std::make_unique<SquaredDifference>(view);
}

}  // namespace tfq::int4
