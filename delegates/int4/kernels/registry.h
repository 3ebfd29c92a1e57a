// The one table of kernels. A kernel is a packer and an inner loop that belong together; the operators in ops/ tile
// over it.
//
// Contract of every kernel: allocates nothing, starts no thread, keeps no state, never reads outside the input rows it
// is given (ASan runs over them), never writes outside the output tile, and equals its reference twin bit for bit.
#ifndef TFQ_DELEGATES_INT4_KERNELS_REGISTRY_H_
#define TFQ_DELEGATES_INT4_KERNELS_REGISTRY_H_

#include <cstddef>
#include <cstdint>

#include "delegates/int4/cpu.h"

namespace tfq::int4 {

// Alignment that every kernel asks of `packed`.
constexpr size_t kPackedAlignment = 64;

// The runtimes' kernels do not all round alike; an operator names the rounding of the built-in kernel that it stands
// for.
enum class Rounding : int32_t {
  kDoubleUpward,    // rounding doubling high multiply, then a rounding shift to the right; ties upward in both
  kDouble,          // gemmlowp: as above, but ties away from zero in the second
  kDoubleByEights,  // kDoubleUpward for the first n / 8 * 8 output channels, kDouble for those left: LiteRT's depthwise
  kSingle,          // one 64-bit product, shifted right once, ties upward
};

// What follows the 32-bit sum: the multiplier of each output channel as TFLite writes it (Q31 multiplier, power-of-two
// shift, positive to the left), the output's zero point and the range of the fused activation (within int8).
struct OutputStage {
  int32_t zero_point;
  int32_t min;
  int32_t max;
  Rounding rounding = Rounding::kDoubleUpward;
};

// How weights are quantized: symmetric, with a scale for each output channel (a file that has one scale for all repeats
// it), or one for each block of consecutive inputs of an output channel.
struct WeightFormat {
  int32_t bits;  // 4 or 8
  bool blocks = false;
};
constexpr bool operator==(const WeightFormat& a, const WeightFormat& b) {
  return a.bits == b.bits && a.blocks == b.blocks;
}

constexpr WeightFormat kQs4cw = {4, false};
constexpr WeightFormat kQs8cw = {8, false};
constexpr WeightFormat kQs4b = {4, true};

// Values of a tensor as they lie in the file: int8, or int4 two a byte, low nibble first.
struct WeightValues {
  const uint8_t* bytes;
  int32_t bits;
};

// Weights of one matrix, row-major [n][taps][channels].
struct WeightSource {
  WeightValues values;
  const int32_t* bias;        // [n], or nullptr
  const int32_t* multiplier;  // [n], Q31, never negative
  const int32_t* shift;       // [n], positive to the left, -31..30
  int32_t input_zero_point;
};

// What brings the sum of one output channel to the size of its 16-bit outputs. A stage reads what its rounding needs.
struct WideChannel {
  int64_t bias;
  double scale;        // the real factor
  int32_t multiplier;  // the same as TFLite writes it: Q31, never negative
  int32_t shift;       // positive to the left, -31..7
};

// Weights of one matrix between 16-bit activations, which have no zero point; row-major [n][taps][channels].
struct WideWeights {
  WeightValues values;
  const WideChannel* channels;  // [n]
};

// How the runtimes' kernels for 16-bit activations round.
enum class WideRounding : int32_t {
  kReduced,       // the multiplier rounded to 16 bits, one 64-bit product, shifted right once, ties upward
  kReal,          // the product in double, ties away from zero
  kDoubleUpward,  // Rounding::kDoubleUpward of the sum's lower 32 bits
  kSingle,        // Rounding::kSingle of the sum's lower 32 bits
};

// What follows the 64-bit sum: the range of the fused activation (within int16), for there is no zero point.
struct WideStage {
  int32_t min;
  int32_t max;
  WideRounding rounding;
};

// Weights of one matrix whose scales stay floating point, row-major [n][channels] or [n][taps][channels].
struct ScaledWeights {
  WeightValues values;
  const float* bias;            // [n], or nullptr
  const float* scale;           // [n]: of formats with a scale for each output channel
  const uint16_t* block_scale;  // [n][channels / block], IEEE half precision: of formats with blocks
};

// How one row was quantized: real = scale * (q - zero_point).
struct RowQuantization {
  float scale;
  int32_t zero_point;
};

// What follows the sums of floating-point outputs: the range of the fused activation.
struct FloatStage {
  float min;
  float max;
};

// The same where rows were quantized just before the product. Both arrays belong to the rows of the tile.
struct DynamicStage {
  float min;
  float max;
  const RowQuantization* rows;  // [m]
  const int32_t* block_sums;    // [m][channels / block], sums of each row's values in each block; formats with blocks
};

// Sums over taps and channels. taps is kernel height x width for an indirect convolution, 1 for a 1x1 convolution, a
// dense layer or a gathered patch.
struct GemmShape {
  int32_t n;
  int32_t taps;
  int32_t channels;
  int32_t block = 0;  // inputs that share a scale, a multiple of 32 that divides the channels; taps is 1 then. 0: all
};

// How much there is to compute, as far as it is known when a kernel is chosen.
struct GemmExtent {
  int64_t rows;
  int64_t depth;  // taps times channels
};

// A family of matrix kernels: one calling convention, for any format of weights.
template <typename InType, typename OutType, typename StageType, typename WeightsType>
struct GemmFamily {
  using In = InType;
  using Out = OutType;
  using Stage = StageType;
  using Weights = WeightsType;

  struct Tile {
    int32_t m;              // rows in this tile, 1..mr
    int32_t n_begin;        // first output channel, a multiple of nr
    int32_t n_end;          // one past the last output channel
    const In* const* rows;  // [taps][mr]: row of `channels` values each; rows at or past m repeat a valid row
    const void* packed;     // what pack() wrote
    Out* out;               // element (0, n_begin); row stride out_stride, in elements
    ptrdiff_t out_stride;
    Stage stage;
    void* scratch = nullptr;  // scratch_bytes() of the calling thread's, aligned like `packed`
  };

  const char* name;
  CpuTier tier;
  WeightFormat weights;
  int32_t mr;
  int32_t nr;
  int32_t kr;  // channels are consumed in groups of kr; a ragged tail is handled inside
  size_t (*packed_bytes)(const GemmShape&);
  void (*pack)(const GemmShape&, const Weights&, void* packed);
  void (*run)(const GemmShape&, const Tile&);
  size_t (*scratch_bytes)(const GemmShape&) = nullptr;  // where the kernel needs any
  // Products of fewer rows or shorter sums are for the next best kernel.
  int32_t least_rows = 0;
  int32_t least_depth = 0;
};

// qs8: C[m][n] = stage(sum of (A[m][tap][channel] - input_zero_point) * W[n][tap][channel] + bias[n]).
using GemmKernel = GemmFamily<int8_t, int8_t, OutputStage, WeightSource>;
using GemmTile = GemmKernel::Tile;

// qd8: C[m][n] = clamp(sum of row.scale * (A[m][tap][channel] - row.zero_point) * scale * W[n][tap][channel] +
// bias[n]).
using DynamicGemmKernel = GemmFamily<int8_t, float, DynamicStage, ScaledWeights>;
using DynamicGemmTile = DynamicGemmKernel::Tile;

// qs16: C[m][n] = stage(sum of A[m][tap][channel] * W[n][tap][channel] + bias[n]), summed up in 64 bits.
using WideGemmKernel = GemmFamily<int16_t, int16_t, WideStage, WideWeights>;
using WideGemmTile = WideGemmKernel::Tile;

struct DepthwiseShape {
  int32_t taps;  // row by row
  int32_t channels;
  int32_t width = 1;  // taps in a row
};

// Where the pixels of a tile stand in the rows of an image. Pixels next to each other in a row see the same columns of
// input, each `step` further on than the one before; padding is part of a column.
struct PixelRow {
  int32_t x = 0;  // of the tile's first pixel
  int32_t width = 1;
  int32_t step = 1;
};

// A family of kernels for depthwise convolution with depth multiplier 1. The weights' values are [taps][channels] here,
// the layout of the file.
template <typename InType, typename OutType, typename StageType, typename WeightsType>
struct DepthwiseFamily {
  using In = InType;
  using Out = OutType;
  using Stage = StageType;
  using Weights = WeightsType;

  struct Tile {
    int32_t pixels;         // output pixels in this tile
    const In* const* rows;  // [pixels][taps]: row of `channels` values each
    const void* packed;
    Out* out;  // pixel p at out + p * out_stride
    ptrdiff_t out_stride;
    Stage stage;
    PixelRow in_row = {};
  };

  const char* name;
  CpuTier tier;
  WeightFormat weights;
  size_t (*packed_bytes)(const DepthwiseShape&);
  void (*pack)(const DepthwiseShape&, const Weights&, void* packed);
  void (*run)(const DepthwiseShape&, const Tile&);
};

// qs8: out[p][c] = stage(sum over taps of (in[p][tap][c] - input_zero_point) * W[tap][c] + bias[c]).
using DepthwiseKernel = DepthwiseFamily<int8_t, int8_t, OutputStage, WeightSource>;
using DepthwiseTile = DepthwiseKernel::Tile;

// qs16: the same without a zero point, summed up in 64 bits.
using WideDepthwiseKernel = DepthwiseFamily<int16_t, int16_t, WideStage, WideWeights>;
using WideDepthwiseTile = WideDepthwiseKernel::Tile;

// Digits of a value that is to stay nearly what it is: with three, an error that adding it up in float32 makes too.
constexpr int32_t kDigits = 3;

// Makes one row integers, for the products of qd8. `digits` is 1 or kDigits (docs/delegate-kernels.md has the
// arithmetic):
//   1: int8 over the row's whole range, zero included
//   kDigits: 24 bits, in rows of int8 digits, the lowest first, that add up with the scales which they are given
// With a block, a multiple of 32 that divides the count, also writes the sum of each block's values.
struct QuantizeKernel {
  const char* name;
  CpuTier tier;
  int32_t digits;
  // values [digits][count], block_sums [digits][count / block], quantization [digits]
  void (*run)(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
              RowQuantization* quantization);
};

// Kernels of the operators around linear layers: int8 values one after the other, any number of them.

// A term of a sum: round(((x - zero_point) << left) * multiplier / 2^31), halves upward, and that shifted right by
// `right`, halves away from zero.
struct AddTerm {
  int32_t zero_point;
  int32_t multiplier;  // 0..2^31 - 1
  int32_t left;        // 0..20
  int32_t right;       // 0..31
};

// out[i] = stage(term of a[i] + term of b[i]), the stage with one multiplier. Under Rounding::kSingle, instead,
//   out[i] = clamp(((a[i] - zero_point) * multiplier + (b[i] - zero_point) * multiplier + 2^(r - 1)) >> r + zero_point)
// with r = -shift.
struct AddParams {
  AddTerm a;
  AddTerm b;
  int32_t multiplier;
  int32_t shift;
  OutputStage stage;  // kDouble or kSingle
};

struct AddKernel {
  const char* name;
  CpuTier tier;
  void (*run)(const AddParams&, int64_t count, const int8_t* a, const int8_t* b, int8_t* out);
};

// out[i] = stage((a[i] - a_zero_point) * (b[i] - b_zero_point)), the stage with one multiplier; or, where `scale` is
// not 0, the product times `scale` in float32, rounded to the nearest even integer.
struct MulParams {
  int32_t a_zero_point;
  int32_t b_zero_point;
  int32_t multiplier;
  int32_t shift;
  float scale;
  OutputStage stage;  // kDouble or kSingle
};

struct MulKernel {
  const char* name;
  CpuTier tier;
  void (*run)(const MulParams&, int64_t count, const int8_t* a, const int8_t* b, int8_t* out);
};

// out[i] = table[in[i] + 128].
struct LookupKernel {
  const char* name;
  CpuTier tier;
  void (*run)(const int8_t* table, int64_t count, const int8_t* in, int8_t* out);
};

// sums[c] += rows[0][c] + ... + rows[count - 1][c].
struct SumRowsKernel {
  const char* name;
  CpuTier tier;
  void (*run)(const int8_t* const* rows, int32_t count, int32_t channels, int32_t* sums);
};

// out[c] = the largest of rows[0][c] ... rows[count - 1][c], clamped to min..max; count is 1 or more.
struct MaxRowsKernel {
  const char* name;
  CpuTier tier;
  void (*run)(const int8_t* const* rows, int32_t count, int32_t channels, int8_t min, int8_t max, int8_t* out);
};

template <typename Kernel>
struct KernelTable {
  const Kernel* const* begin_;
  size_t size_;
  const Kernel* const* begin() const { return begin_; }
  const Kernel* const* end() const { return begin_ + size_; }
  size_t size() const { return size_; }
  const Kernel* back() const { return begin_[size_ - 1]; }  // the reference
};

// Every kernel compiled for this architecture, best tier first; tests and benches enumerate these.
KernelTable<GemmKernel> GemmKernels();
KernelTable<DepthwiseKernel> DepthwiseKernels();
KernelTable<DynamicGemmKernel> DynamicGemmKernels();
KernelTable<WideGemmKernel> WideGemmKernels();
KernelTable<WideDepthwiseKernel> WideDepthwiseKernels();
KernelTable<QuantizeKernel> QuantizeKernels();
KernelTable<AddKernel> AddKernels();
KernelTable<MulKernel> MulKernels();
KernelTable<LookupKernel> LookupKernels();
KernelTable<SumRowsKernel> SumRowsKernels();
KernelTable<MaxRowsKernel> MaxRowsKernels();

// The best kernel, for weights of this format where it has any, that the CPU runs and that the cap allows. Never null:
// the reference serves everywhere.
const GemmKernel* ChooseGemm(CpuTier cap, const WeightFormat& weights, const GemmExtent& extent);
const DepthwiseKernel* ChooseDepthwise(CpuTier cap, const WeightFormat& weights);
const DynamicGemmKernel* ChooseDynamicGemm(CpuTier cap, const WeightFormat& weights, const GemmExtent& extent);
const WideGemmKernel* ChooseWideGemm(CpuTier cap, const WeightFormat& weights);
const WideDepthwiseKernel* ChooseWideDepthwise(CpuTier cap, const WeightFormat& weights);
const QuantizeKernel* ChooseQuantize(CpuTier cap, int32_t digits);
const AddKernel* ChooseAdd(CpuTier cap);
const MulKernel* ChooseMul(CpuTier cap);
const LookupKernel* ChooseLookup(CpuTier cap);
const SumRowsKernel* ChooseSumRows(CpuTier cap);
const MaxRowsKernel* ChooseMaxRows(CpuTier cap);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_REGISTRY_H_
