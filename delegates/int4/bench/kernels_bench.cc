// Speed of every kernel that this CPU runs, on shapes of real models: one thread, data that fits the caches unless the
// shape says otherwise. `items_per_second` is multiply-accumulates, or elements of kernels that have none;
// `weight_bytes` what the kernel packs; `bound_%` the share of the speed that the tier's product instruction and the
// measured read bandwidth allow (bounds.h).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "delegates/int4/bench/bounds.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/packing/packing.h"

namespace tfq::int4 {
namespace {

struct GemmSetting {
  const char* name;
  int32_t m;
  GemmShape shape;
};

constexpr GemmSetting kGemmSettings[] = {
    {"first_3x3x3_to_32", 3136, {32, 1, 28}},      {"pointwise_16_to_96", 3136, {96, 1, 16}},
    {"pointwise_32_to_16", 3136, {16, 1, 32}},     {"pointwise_96_to_24", 3136, {24, 1, 96}},
    {"pointwise_32_to_192", 784, {192, 1, 32}},    {"pointwise_576_to_96", 196, {96, 1, 576}},
    {"pointwise_320_to_1280", 49, {1280, 1, 320}}, {"conv_3x3_64_to_64", 784, {64, 9, 64}},
    {"dense_1x4096x4096", 1, {4096, 1, 4096}},     {"dense_32x1024x1024", 32, {1024, 1, 1024}},
};

// Images and windows are square; windows lie within their image.
struct DepthwiseSetting {
  const char* name;
  int32_t out_side, window, stride, channels;
};

constexpr DepthwiseSetting kDepthwiseSettings[] = {
    {"3x3_over_56x56x16", 56, 3, 1, 16},
    {"3x3_over_28x28x96", 28, 3, 1, 96},
    {"3x3_over_28x28x144", 28, 3, 1, 144},
    {"3x3_stride_2_over_14x14x192", 14, 3, 2, 192},
    {"3x3_over_7x7x960", 7, 3, 1, 960},
    {"5x5_over_28x28x120", 28, 5, 1, 120},
    {"5x5_stride_2_over_14x14x240", 14, 5, 2, 240},
};

constexpr int32_t kTilePointers = 512;  // as many as the delegate's tiles have

// Rows of channels, of kernels without weights.
struct RowsSetting {
  const char* name;
  int32_t rows;
  int32_t channels;
};

constexpr RowsSetting kRowsSettings[] = {{"14x14x96", 196, 96}, {"56x56x24", 3136, 24}, {"56x56x256", 3136, 256}};
constexpr RowsSetting kPoolSettings[] = {{"2x2_over_64", 4, 64}, {"7x7_over_1280", 49, 1280}};

constexpr int32_t kBlock = 32;

// A kernel with its data.
struct Case {
  CpuTier tier;
  double items;         // of a run
  double products;      // of them, those that the tier's product instruction makes
  double weight_bytes;  // read in a run
  double other_bytes;   // read and written
  std::function<void()> run;
};

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using Aligned = std::unique_ptr<void, FreeDeleter>;

Aligned Allocate(size_t bytes) {
  return Aligned(std::aligned_alloc(kPackedAlignment, RoundUp(bytes, kPackedAlignment)));
}

// Any integers; reals from -1 to 1.
template <typename T>
std::vector<T> RandomValues(size_t count) {
  std::mt19937 random(1);
  std::vector<T> values(count);
  for (T& value : values) {
    if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<T>(static_cast<int32_t>(random())) / T{2147483648.0};
    } else {
      value = static_cast<T>(random());
    }
  }
  return values;
}

// Any weights, with the scales that an average layer has.
class Weights {
 public:
  Weights(const WeightFormat& format, int32_t n, size_t count)
      : bits_(format.bits),
        values_(RandomValues<uint8_t>((count * format.bits + 7) / 8)),
        multiplier_(n, 1500000000),
        shift_(n, -7),
        scale_(n, 0.01F),
        block_scale_(format.blocks ? count / kBlock : 0, kHundredth) {}

  template <typename Source>
  Source As() const {
    const WeightValues values = {values_.data(), bits_};
    if constexpr (std::is_same_v<Source, WeightSource>) {
      return {values, nullptr, multiplier_.data(), shift_.data(), -3};
    } else {
      return {values, nullptr, scale_.data(), block_scale_.data()};
    }
  }

 private:
  static constexpr uint16_t kHundredth = 0x211f;  // 0.01 in half precision

  int32_t bits_;
  std::vector<uint8_t> values_;
  std::vector<int32_t> multiplier_, shift_;
  std::vector<float> scale_;
  std::vector<uint16_t> block_scale_;
};

constexpr OutputStage kStage{5, -128, 127, Rounding::kDoubleUpward};

// What follows the sums, for each family of matrix kernels.
template <typename Stage>
struct StageOf;

template <>
struct StageOf<OutputStage> {
  explicit StageOf(const GemmSetting&, const GemmShape&) {}
  OutputStage At(int32_t) const { return kStage; }
};

template <>
struct StageOf<DynamicStage> {
  explicit StageOf(const GemmSetting& setting, const GemmShape& shape)
      : blocks(shape.block == 0 ? 0 : shape.channels / shape.block),
        rows(setting.m, {0.02F, 3}),
        block_sums(size_t(setting.m) * blocks) {}
  DynamicStage At(int32_t row) const { return {-1e30F, 1e30F, &rows[row], block_sums.data() + row * blocks}; }

  size_t blocks;
  std::vector<RowQuantization> rows;
  std::vector<int32_t> block_sums;
};

template <typename Kernel>
struct GemmData {
  GemmData(const Kernel& kernel, const GemmSetting& setting, const GemmShape& s)
      : shape(s),
        depth(size_t(s.taps) * s.channels),
        packed(Allocate(kernel.packed_bytes(s))),
        scratch(Allocate(kernel.scratch_bytes == nullptr ? 0 : kernel.scratch_bytes(s))),
        activations(RandomValues<typename Kernel::In>(setting.m * depth)),
        out(size_t(setting.m) * s.n),
        rows(size_t(s.taps) * kernel.mr),
        stage(setting, s) {
    const Weights weights(kernel.weights, s.n, s.n * depth);
    kernel.pack(shape, weights.As<typename Kernel::Weights>(), packed.get());
  }

  GemmShape shape;
  size_t depth;
  Aligned packed, scratch;
  std::vector<typename Kernel::In> activations;
  std::vector<typename Kernel::Out> out;
  std::vector<const typename Kernel::In*> rows;
  StageOf<typename Kernel::Stage> stage;
};

template <typename Kernel>
void RunGemm(const Kernel& kernel, int32_t rows, GemmData<Kernel>* data) {
  const GemmShape& shape = data->shape;
  for (int32_t begin = 0; begin < rows; begin += kernel.mr) {
    const int32_t m = std::min(kernel.mr, rows - begin);
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      for (int32_t i = 0; i < kernel.mr; ++i) {
        const size_t row = begin + std::min(i, m - 1);
        data->rows[tap * kernel.mr + i] = &data->activations[row * data->depth + size_t(tap) * shape.channels];
      }
    }
    kernel.run(shape, {m, 0, shape.n, data->rows.data(), data->packed.get(), &data->out[size_t(begin) * shape.n],
                       shape.n, data->stage.At(begin), data->scratch.get()});
  }
}

template <typename In, typename Out, typename Stage, typename Source>
bool Fits(const GemmFamily<In, Out, Stage, Source>& kernel, const GemmSetting& setting) {
  return !kernel.weights.blocks || (setting.shape.taps == 1 && setting.shape.channels % kBlock == 0);
}

template <typename In, typename Out, typename Stage, typename Source>
Case Prepare(const GemmFamily<In, Out, Stage, Source>& kernel, const GemmSetting& setting) {
  GemmShape shape = setting.shape;
  if (kernel.weights.blocks) shape.block = kBlock;
  using Data = GemmData<GemmFamily<In, Out, Stage, Source>>;
  const auto data = std::make_shared<Data>(kernel, setting, shape);
  const double macs = double(setting.m) * shape.n * double(data->depth);
  return {kernel.tier,
          macs,
          macs,
          double(kernel.packed_bytes(shape)),
          double(data->activations.size() * sizeof(In) + data->out.size() * sizeof(Out)),
          [&kernel, &setting, data] { RunGemm(kernel, setting.m, data.get()); }};
}

template <typename Kernel, typename Setting>
bool Fits(const Kernel&, const Setting&) {
  return true;
}

struct DepthwiseData {
  DepthwiseShape shape;
  int32_t pixels;
  PixelRow in_row;  // of the first
  Aligned packed;
  std::vector<int8_t> activations, out;
  std::vector<const int8_t*> rows;  // [pixels][taps]
};

void RunDepthwise(const DepthwiseKernel& kernel, DepthwiseData* data) {
  const DepthwiseShape& shape = data->shape;
  const int32_t tile = kTilePointers / shape.taps;
  for (int32_t begin = 0; begin < data->pixels; begin += tile) {
    PixelRow in_row = data->in_row;
    in_row.x = begin % in_row.width;
    kernel.run(shape, {std::min(tile, data->pixels - begin), &data->rows[size_t(begin) * shape.taps],
                       data->packed.get(), &data->out[size_t(begin) * shape.channels], shape.channels, kStage, in_row});
  }
}

Case Prepare(const DepthwiseKernel& kernel, const DepthwiseSetting& setting) {
  const DepthwiseShape shape = {setting.window * setting.window, setting.channels, setting.window};
  const int32_t pixels = setting.out_side * setting.out_side;
  const size_t channels = shape.channels;
  const size_t in_side = (setting.out_side - 1) * setting.stride + setting.window;
  const auto data = std::make_shared<DepthwiseData>(DepthwiseData{shape,
                                                                  pixels,
                                                                  {0, setting.out_side, setting.stride},
                                                                  Allocate(kernel.packed_bytes(shape)),
                                                                  RandomValues<int8_t>(in_side * in_side * channels),
                                                                  std::vector<int8_t>(pixels * channels),
                                                                  {}});
  for (int32_t p = 0; p < pixels; ++p) {
    const size_t top = p / setting.out_side * setting.stride, left = p % setting.out_side * setting.stride;
    for (int32_t tap = 0; tap < shape.taps; ++tap) {
      const size_t row = (top + tap / setting.window) * in_side + left + tap % setting.window;
      data->rows.push_back(&data->activations[row * channels]);
    }
  }
  const Weights weights(kernel.weights, shape.channels, shape.taps * channels);
  kernel.pack(shape, weights.As<WeightSource>(), data->packed.get());
  const double macs = double(pixels) * shape.taps * shape.channels;
  return {kernel.tier,
          macs,
          macs,
          double(kernel.packed_bytes(shape)),
          double(data->activations.size() + data->out.size()),
          [&kernel, data] { RunDepthwise(kernel, data.get()); }};
}

Case Prepare(const QuantizeKernel& kernel, const RowsSetting& setting) {
  struct Data {
    std::vector<float> in;
    std::vector<int8_t> out;
    std::vector<RowQuantization> quantization;
  };
  const size_t count = size_t(setting.rows) * setting.channels;
  const size_t digits = kernel.digits;
  const auto data =
      std::make_shared<Data>(Data{RandomValues<float>(count), std::vector<int8_t>(setting.channels * digits),
                                  std::vector<RowQuantization>(digits)});
  return {kernel.tier, double(count), 0, 0, double(count * (sizeof(float) + digits)), [&kernel, &setting, data] {
            for (int32_t row = 0; row < setting.rows; ++row) {
              kernel.run(&data->in[size_t(row) * setting.channels], setting.channels, 0, data->out.data(), nullptr,
                         data->quantization.data());
            }
          }};
}

// Elements of two tensors, or of one.
struct ElementsData {
  std::vector<int8_t> a, b, out;
};

template <typename Run>
Case PrepareElements(CpuTier tier, const RowsSetting& setting, int32_t inputs, Run run) {
  const size_t count = size_t(setting.rows) * setting.channels;
  const auto data = std::make_shared<ElementsData>(
      ElementsData{RandomValues<int8_t>(count), RandomValues<int8_t>(count), std::vector<int8_t>(count)});
  return {tier, double(count), 0, 0, double(count) * (inputs + 1), [run, data] { run(data.get()); }};
}

Case Prepare(const AddKernel& kernel, const RowsSetting& setting) {
  const AddTerm larger = {-3, 1 << 30, 20, 0}, smaller = {7, 1600000000, 20, 1};
  const AddParams params = {larger, smaller, 1500000000, -18, {5, -128, 127, Rounding::kDouble}};
  return PrepareElements(kernel.tier, setting, 2, [&kernel, params](ElementsData* data) {
    kernel.run(params, static_cast<int64_t>(data->a.size()), data->a.data(), data->b.data(), data->out.data());
  });
}

Case Prepare(const MulKernel& kernel, const RowsSetting& setting) {
  const MulParams params = {-3, 4, 1500000000, -7, 0, {5, -128, 127, Rounding::kDouble}};
  return PrepareElements(kernel.tier, setting, 2, [&kernel, params](ElementsData* data) {
    kernel.run(params, static_cast<int64_t>(data->a.size()), data->a.data(), data->b.data(), data->out.data());
  });
}

Case Prepare(const LookupKernel& kernel, const RowsSetting& setting) {
  const auto table = std::make_shared<std::vector<int8_t>>(RandomValues<int8_t>(256));
  return PrepareElements(kernel.tier, setting, 1, [&kernel, table](ElementsData* data) {
    kernel.run(table->data(), static_cast<int64_t>(data->a.size()), data->a.data(), data->out.data());
  });
}

template <typename Out>
struct PoolData {
  explicit PoolData(const RowsSetting& setting)
      : in(RandomValues<int8_t>(size_t(setting.rows) * setting.channels)), out(setting.channels) {
    for (int32_t row = 0; row < setting.rows; ++row) rows.push_back(&in[size_t(row) * setting.channels]);
  }
  std::vector<int8_t> in;
  std::vector<Out> out;
  std::vector<const int8_t*> rows;
};

Case Prepare(const SumRowsKernel& kernel, const RowsSetting& setting) {
  const auto data = std::make_shared<PoolData<int32_t>>(setting);
  return {kernel.tier, double(data->in.size()), 0, 0, double(data->in.size()), [&kernel, &setting, data] {
            kernel.run(data->rows.data(), setting.rows, setting.channels, data->out.data());
          }};
}

Case Prepare(const MaxRowsKernel& kernel, const RowsSetting& setting) {
  const auto data = std::make_shared<PoolData<int8_t>>(setting);
  return {kernel.tier, double(data->in.size()), 0, 0, double(data->in.size()), [&kernel, &setting, data] {
            kernel.run(data->rows.data(), setting.rows, setting.channels, -128, 127, data->out.data());
          }};
}

void Measure(benchmark::State& state, const Bounds& bounds, const Case& with) {
  // Processor time, as Google Benchmark takes for its rates.
  const std::clock_t start = std::clock();
  for (auto _ : state) {
    with.run();
    benchmark::ClobberMemory();
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  const double runs = static_cast<double>(state.iterations());
  state.SetItemsProcessed(static_cast<int64_t>(runs * with.items));
  if (with.weight_bytes > 0) state.counters["weight_bytes"] = with.weight_bytes;
  const double bound = bounds.Seconds(with.tier, with.products, with.weight_bytes + with.other_bytes);
  if (bound > 0 && seconds > 0) state.counters["bound_%"] = 100 * bound * runs / seconds;
}

// One benchmark for each kernel of a table that this CPU runs, and each setting that it takes.
template <typename Kernel, typename Setting, size_t kCount>
void Register(const Bounds& bounds, KernelTable<Kernel> kernels, const Setting (&settings)[kCount]) {
  for (const Kernel* kernel : kernels) {
    if (!CpuRuns(kernel->tier)) continue;
    for (const Setting& setting : settings) {
      if (!Fits(*kernel, setting)) continue;
      const std::string name = std::string(kernel->name) + "/" + setting.name;
      benchmark::RegisterBenchmark(name.c_str(), [&bounds, &setting, kernel](benchmark::State& state) {
        Measure(state, bounds, Prepare(*kernel, setting));
      });
    }
  }
}

std::string Giga(double value, const char* unit) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value * 1e-9, unit);
  return text;
}

// Into the head of the output and of its JSON.
void Tell(const Bounds& bounds) {
  for (const Peak& peak : bounds.peaks) {
    benchmark::AddCustomContext(std::string("peak ") + CpuTierName(peak.tier) + " (" + peak.instruction + ")",
                                Giga(peak.macs_per_second, "GMAC/s"));
  }
  for (const Bandwidth& bandwidth : bounds.bandwidths) {
    benchmark::AddCustomContext("read bandwidth " + std::to_string(bandwidth.bytes >> 10) + " KiB",
                                Giga(bandwidth.bytes_per_second, "GB/s"));
  }
}

}  // namespace
}  // namespace tfq::int4

int main(int argc, char** argv) {
  using namespace tfq::int4;  // NOLINT: the table below is all that is here
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const Bounds bounds = MeasureBounds();
  Tell(bounds);
  Register(bounds, GemmKernels(), kGemmSettings);
  Register(bounds, DynamicGemmKernels(), kGemmSettings);
  Register(bounds, DepthwiseKernels(), kDepthwiseSettings);
  Register(bounds, QuantizeKernels(), kRowsSettings);
  Register(bounds, AddKernels(), kRowsSettings);
  Register(bounds, MulKernels(), kRowsSettings);
  Register(bounds, LookupKernels(), kRowsSettings);
  Register(bounds, SumRowsKernels(), kPoolSettings);
  Register(bounds, MaxRowsKernels(), kPoolSettings);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
