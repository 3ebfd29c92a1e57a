// Functions of one int8 value: a table of all 256, made once.
#include <cmath>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/mul.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

// By value + 128.
struct Table {
  int8_t of[256];
};

template <typename Function>
Table MakeTable(const Function& function) {
  Table table;
  for (int32_t x = INT8_MIN; x <= INT8_MAX; ++x) {
    table.of[x - INT8_MIN] = static_cast<int8_t>(std::clamp<int32_t>(function(x), INT8_MIN, INT8_MAX));
  }
  return table;
}

// What the values of a whole tensor look up: the first in `vector`, where a vector loop of the built-in kernel takes
// them and rounds otherwise than its plain loop, those left in `rest`.
struct Tables {
  Table vector;
  Table rest;
};

Tables Same(const Table& table) { return {table, table}; }

// round(ratio * (x - zero point)) + zero point of the output, the ratio in fixed point.
Table MakeRequantizing(const NodeView& view, double ratio, const OutputStage& stage) {
  int32_t multiplier, shift;
  QuantizeMultiplier(ratio, &multiplier, &shift);
  const bool away = stage.rounding == Rounding::kDouble;
  return MakeTable(
      [&](int32_t x) { return ApplyOutputStage(x - view.input()->params.zero_point, multiplier, shift, away, stage); });
}

Tables MakeReluTables(const NodeView& view, abi::Activation activation) {
  NodeView bounded = view;
  bounded.activation = activation;
  // The built-in kernel divides the scales in float32.
  const float ratio = view.input()->params.scale / view.output()->params.scale;
  return Same(MakeRequantizing(view, static_cast<double>(ratio), MakeOutputStage(bounded, Rounding::kDouble)));
}

Tables MakeReluTables(const NodeView& view) { return MakeReluTables(view, abi::Activation::kRelu); }
Tables MakeRelu6Tables(const NodeView& view) { return MakeReluTables(view, abi::Activation::kRelu6); }
Tables MakeReluN1To1Tables(const NodeView& view) { return MakeReluTables(view, abi::Activation::kReluN1To1); }

Tables MakeQuantizeTables(const NodeView& view) {
  const abi::QuantizationParams& input = view.input()->params;
  const abi::QuantizationParams& output = view.output()->params;
  if (view.match == Match::kXnnpack) {
    const int32_t multiplier = static_cast<int32_t>(std::lrint(256.0f * (input.scale / output.scale)));
    return Same(
        MakeTable([&](int32_t x) { return (((x - input.zero_point) * multiplier + 128) >> 8) + output.zero_point; }));
  }
  const double ratio = static_cast<double>(input.scale) / static_cast<double>(output.scale);
  return {MakeRequantizing(view, ratio, MakeOutputStage(view, Rounding::kDoubleUpward)),
          MakeRequantizing(view, ratio, MakeOutputStage(view, Rounding::kDouble))};
}

// XNNPACK computes the exponential in double and rounds to even; the built-in kernel works in float32 and rounds away
// from zero.
Tables MakeLogisticTables(const NodeView& view) {
  const abi::QuantizationParams& input = view.input()->params;
  const abi::QuantizationParams& output = view.output()->params;
  const float inverse = 1.0f / output.scale;
  return Same(MakeTable([&](int32_t x) {
    const float real = input.scale * static_cast<float>(x - input.zero_point);
    if (view.match == Match::kXnnpack) {
      const double e = std::exp(static_cast<double>(real));
      const float value = real > 100 ? 1.0f : real < -100 ? 0.0f : static_cast<float>(e / (1 + e));
      const float scaled = value * inverse;
      return static_cast<int32_t>(std::lrint(scaled + static_cast<float>(output.zero_point)));
    }
    const float value = 1.0f / (1.0f + std::exp(-real));
    return static_cast<int32_t>(std::round(value * inverse) + static_cast<float>(output.zero_point));
  }));
}

int32_t Saturate16(int64_t x) { return static_cast<int32_t>(std::clamp<int64_t>(x, INT16_MIN, INT16_MAX)); }

// a * b / 2^15, halves upward.
int32_t RoundingHighProduct16(int32_t a, int32_t b) { return Saturate16((a * b + (1 << 14)) >> 15); }

// A Q31 multiplier as Q15.
int32_t Narrow16(int32_t multiplier) {
  return std::min<int32_t>(INT16_MAX, static_cast<int32_t>((int64_t{multiplier} + (1 << 15)) >> 16));
}

int32_t RoundAway(int32_t x, int32_t right) {
  const int32_t half = right > 0 ? int32_t{1} << (right - 1) : 0;
  return x < 0 ? -((half - x) >> right) : (x + half) >> right;
}

// x * relu6(x + 3) / 6 in 16-bit fixed point, as the built-in kernel has it: XNNPACK takes none in int8.
Tables MakeHardSwishTables(const NodeView& view) {
  const abi::QuantizationParams& input = view.input()->params;
  const abi::QuantizationParams& output = view.output()->params;
  const float fine = (1.0f / 128.0f) * input.scale;  // scale of the input, seven bits up
  int32_t output_multiplier, output_shift, gate_multiplier, gate_shift;
  QuantizeMultiplier(static_cast<double>(fine / output.scale), &output_multiplier, &output_shift);
  QuantizeMultiplier(static_cast<double>(fine / (3.0f / 32768.0f)), &gate_multiplier, &gate_shift);
  const int32_t output_multiplier_16 = Narrow16(output_multiplier), gate_multiplier_16 = Narrow16(gate_multiplier);
  return Same(MakeTable([&](int32_t x) {
    const int32_t high = (x - input.zero_point) * 128;
    // x / 3, saturated to -1..1 in Q15; the last bit of a left shift comes after the product.
    int32_t gate = high;
    if (gate_shift > 0) gate = Saturate16(gate * (int64_t{1} << (gate_shift - 1)));
    gate = RoundingHighProduct16(gate, gate_multiplier_16);
    gate = gate_shift > 0 ? Saturate16(gate * 2) : RoundAway(gate, -gate_shift);
    gate = (gate + (1 << 15)) >> 1;  // 0..1
    const int32_t scaled = RoundingHighProduct16(high, output_multiplier_16);
    return RoundAway(gate * scaled / (1 << 15), -output_shift) + output.zero_point;
  }));
}

// 2^28 / sqrt(x) for x in 2^27..2^29, both as fractions of 2^28: Newton's iteration in fixed point of 28 bits, each
// product rounded to the bits that are kept of it.
int32_t InverseSquareRoot(int32_t x) {
  const auto product = [](int32_t a, int32_t b) { return static_cast<int32_t>((int64_t{a} * b + (1 << 30)) >> 31); };
  const auto left = [](int32_t a, int32_t bits) {
    return static_cast<int32_t>(std::clamp<int64_t>(int64_t{a} * (int64_t{1} << bits), INT32_MIN, INT32_MAX));
  };
  constexpr int32_t kThreeHalves = 3 << 27, kIterations = 5, kHalfRootOfTwo = 1518500250;
  const int32_t half = (x / 2 + 1) / 2;
  int32_t root = 1 << 28;
  for (int32_t i = 0; i < kIterations; ++i) {
    const int32_t cube = left(product(product(root, root), root), 6);
    root = left(product(kThreeHalves, root) - product(half, cube), 3);
  }
  return product(root, kHalfRootOfTwo);
}

// Inputs have no value below their zero point, which stands for the largest output; the built-in kernel computes
// 2^20 / sqrt(x) and scales that.
Tables MakeRsqrtTables(const NodeView& view) {
  constexpr int32_t kBits = 20;
  const abi::QuantizationParams& output = view.output()->params;
  int32_t multiplier, shift;
  QuantizeMultiplier(RsqrtFactor(view), &multiplier, &shift);
  return Same(MakeTable([&](int32_t quantized) {
    const int32_t x = quantized - view.input()->params.zero_point;
    if (x <= 0) return INT8_MAX;
    int32_t root = INT32_MAX, right = 0;
    if (x > 1) {
      int32_t pairs = 0;
      while (x << 2 * (pairs + 1) < 1 << 29) ++pairs;
      root = InverseSquareRoot(x << 2 * pairs);
      right = 11 - pairs;
    }
    const int32_t fine = MultiplyDoubleRounding(1, root, kBits - right, true);
    return MultiplyDoubleRounding(fine, multiplier, shift - kBits, true) + output.zero_point;
  }));
}

// A product with a constant, by the kernel that would multiply tensors.
Tables MakeProductTables(const NodeView& view) {
  const int32_t constant = ConstantFactor(view);
  const int8_t factor = *static_cast<const int8_t*>(view.input(static_cast<size_t>(constant))->data);
  const MulParams params = MakeMulParams(view);
  return Same(MakeTable([&](int32_t x) {
    const int8_t value = static_cast<int8_t>(x);
    int8_t product;
    MulKernels().back()->run(params, 1, constant == 0 ? &factor : &value, constant == 0 ? &value : &factor, &product);
    return int32_t{product};
  }));
}

class Lookup : public Op {
 public:
  // Of the node's input `input`; others are in the table.
  Lookup(const Tables& tables, const NodeView& view, const Options& options, int32_t input)
      : kernel_(ChooseLookup(options.cpu)), match_(view.match), tables_(tables), input_(input) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const Dims& input = inputs[static_cast<size_t>(input_)];
    *outputs = {input};
    count_ = ElementsOf(input.data(), input.data() + input.size());
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* in = operands.input<int8_t>(input_);
    int8_t* out = operands.output<int8_t>();
    const int64_t vector = VectorPart(match_, count_);
    ShareRange(workspace.pool, vector, kVectorBlock, vector * kOperations, [&](int64_t begin, int64_t end, int32_t) {
      kernel_->run(tables_.vector.of, end - begin, in + begin, out + begin);
    });
    kernel_->run(tables_.rest.of, count_ - vector, in + vector, out + vector);
  }

 private:
  static constexpr int64_t kOperations = 8;  // multiplications that a value costs about as much as

  const LookupKernel* kernel_;
  Match match_;
  Tables tables_;
  int32_t input_;
  int64_t count_ = 0;
};

template <Tables (*make)(const NodeView&)>
std::unique_ptr<Op> MakeLookup(const NodeView& view, const Options& options) {
  return std::make_unique<Lookup>(make(view), view, options, 0);
}

}  // namespace

const char* LookupName(const NodeView&, const Options& options) { return ChooseLookup(options.cpu)->name; }

std::unique_ptr<Op> MakeMulByConstant(const NodeView& view, const Options& options) {
  return std::make_unique<Lookup>(MakeProductTables(view), view, options, 1 - ConstantFactor(view));
}
std::unique_ptr<Op> MakeRelu(const NodeView& view, const Options& options) {
  return MakeLookup<MakeReluTables>(view, options);
}
std::unique_ptr<Op> MakeRelu6(const NodeView& view, const Options& options) {
  return MakeLookup<MakeRelu6Tables>(view, options);
}
std::unique_ptr<Op> MakeReluN1To1(const NodeView& view, const Options& options) {
  return MakeLookup<MakeReluN1To1Tables>(view, options);
}
std::unique_ptr<Op> MakeHardSwish(const NodeView& view, const Options& options) {
  return MakeLookup<MakeHardSwishTables>(view, options);
}
std::unique_ptr<Op> MakeLogistic(const NodeView& view, const Options& options) {
  return MakeLookup<MakeLogisticTables>(view, options);
}
std::unique_ptr<Op> MakeRsqrt(const NodeView& view, const Options& options) {
  return MakeLookup<MakeRsqrtTables>(view, options);
}
std::unique_ptr<Op> MakeQuantize(const NodeView& view, const Options& options) {
  return MakeLookup<MakeQuantizeTables>(view, options);
}

}  // namespace tfq::int4
