// Speed of every kernel that this CPU runs, on shapes of real models: one thread, data that fits the caches unless the
// shape says otherwise. `items_per_second` is multiply-accumulates, `weight_bytes` what the kernel packs, `of_bound`
// the share of the speed that the tier's product instruction and the measured read bandwidth allow (bounds.h).
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
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
    {"first_3x3x3_to_32", 3136, {32, 1, 27}},      {"pointwise_96_to_24", 3136, {24, 1, 96}},
    {"pointwise_32_to_192", 784, {192, 1, 32}},    {"pointwise_576_to_96", 196, {96, 1, 576}},
    {"pointwise_320_to_1280", 49, {1280, 1, 320}}, {"conv_3x3_64_to_64", 784, {64, 9, 64}},
    {"dense_1x4096x4096", 1, {4096, 1, 4096}},     {"dense_32x1024x1024", 32, {1024, 1, 1024}},
};

struct DepthwiseSetting {
  const char* name;
  int32_t pixels;
  DepthwiseShape shape;
};

constexpr DepthwiseSetting kDepthwiseSettings[] = {
    {"3x3_over_16", 3136, {9, 16}}, {"3x3_over_96", 784, {9, 96}},    {"3x3_over_144", 784, {9, 144}},
    {"3x3_over_960", 49, {9, 960}}, {"5x5_over_120", 784, {25, 120}},
};

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
using Packed = std::unique_ptr<void, FreeDeleter>;

std::vector<int8_t> RandomBytes(size_t count) {
  std::mt19937 random(1);
  std::vector<int8_t> bytes(count);
  for (int8_t& byte : bytes) byte = static_cast<int8_t>(random());
  return bytes;
}

// Any weights with the multipliers that an average layer has.
class Weights {
 public:
  Weights(const WeightFormat& format, int32_t n, size_t count)
      : bits_(format.bits),
        values_(RandomBytes((count * format.bits + 7) / 8)),
        multiplier_(n, 1500000000),
        shift_(n, -7) {}
  WeightSource source() const {
    const WeightValues values = {reinterpret_cast<const uint8_t*>(values_.data()), bits_};
    return {values, nullptr, multiplier_.data(), shift_.data(), -3};
  }

 private:
  int32_t bits_;
  std::vector<int8_t> values_;
  std::vector<int32_t> multiplier_, shift_;
};

template <typename Kernel, typename Shape>
Packed PackFor(const Kernel& kernel, const Shape& shape, const WeightSource& source) {
  Packed packed(std::aligned_alloc(kPackedAlignment, kernel.packed_bytes(shape)));
  kernel.pack(shape, source, packed.get());
  return packed;
}

constexpr OutputStage kStage{5, -128, 127, Rounding::kDoubleUpward};

using Clock = std::chrono::steady_clock;

// What one run of a kernel does.
struct Work {
  CpuTier tier;
  double macs;
  double weight_bytes;
  double activation_bytes;  // in and out
};

void Report(benchmark::State& state, const Bounds& bounds, const Work& work, Clock::duration taken) {
  const double runs = static_cast<double>(state.iterations());
  state.SetItemsProcessed(static_cast<int64_t>(runs * work.macs));
  state.counters["weight_bytes"] = work.weight_bytes;
  const double bound = bounds.Seconds(work.tier, work.macs, work.weight_bytes + work.activation_bytes);
  if (bound > 0) state.counters["bound_%"] = 100 * bound * runs / std::chrono::duration<double>(taken).count();
}

void RunGemm(benchmark::State& state, const Bounds& bounds, const GemmKernel& kernel, const GemmSetting& setting) {
  const GemmShape& shape = setting.shape;
  const size_t depth = size_t(shape.taps) * shape.channels;
  const Weights weights(kernel.weights, shape.n, shape.n * depth);
  const Packed packed = PackFor(kernel, shape, weights.source());
  const std::vector<int8_t> activations = RandomBytes(setting.m * depth);
  std::vector<int8_t> out(size_t(setting.m) * shape.n);
  std::vector<const int8_t*> rows(size_t(shape.taps) * kernel.mr);
  const size_t scratch_bytes = kernel.scratch_bytes == nullptr ? 0 : kernel.scratch_bytes(shape);
  const Packed scratch(std::aligned_alloc(kPackedAlignment, RoundUp(scratch_bytes, kPackedAlignment)));
  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    for (int32_t begin = 0; begin < setting.m; begin += kernel.mr) {
      const int32_t m = std::min(kernel.mr, setting.m - begin);
      for (int32_t tap = 0; tap < shape.taps; ++tap) {
        for (int32_t i = 0; i < kernel.mr; ++i) {
          rows[tap * kernel.mr + i] = &activations[(begin + std::min(i, m - 1)) * depth + tap * shape.channels];
        }
      }
      kernel.run(shape, {m, 0, shape.n, rows.data(), packed.get(), &out[size_t(begin) * shape.n], shape.n, kStage,
                         scratch.get()});
    }
    benchmark::ClobberMemory();
  }
  Report(state, bounds,
         {kernel.tier, double(setting.m) * shape.n * double(depth), double(kernel.packed_bytes(shape)),
          double(activations.size() + out.size())},
         Clock::now() - start);
}

void RunDepthwise(benchmark::State& state, const Bounds& bounds, const DepthwiseKernel& kernel,
                  const DepthwiseSetting& setting) {
  const DepthwiseShape& shape = setting.shape;
  const Weights weights(kernel.weights, shape.channels, size_t(shape.taps) * shape.channels);
  const Packed packed = PackFor(kernel, shape, weights.source());
  // Neighbouring pixels share most of their rows, as they do in an image.
  const std::vector<int8_t> activations = RandomBytes(size_t(setting.pixels + shape.taps) * shape.channels);
  std::vector<int8_t> out(size_t(setting.pixels) * shape.channels);
  std::vector<const int8_t*> rows;
  for (int32_t p = 0; p < setting.pixels; ++p) {
    for (int32_t tap = 0; tap < shape.taps; ++tap) rows.push_back(&activations[size_t(p + tap) * shape.channels]);
  }
  const Clock::time_point start = Clock::now();
  for (auto _ : state) {
    kernel.run(shape, {setting.pixels, rows.data(), packed.get(), out.data(), shape.channels, kStage});
    benchmark::ClobberMemory();
  }
  Report(state, bounds,
         {kernel.tier, double(setting.pixels) * shape.taps * shape.channels, double(kernel.packed_bytes(shape)),
          double(activations.size() + out.size())},
         Clock::now() - start);
}

// One benchmark for each kernel of a table that this CPU runs, and each setting.
template <typename Kernel, typename Setting, size_t kCount, typename Run>
void Register(KernelTable<Kernel> kernels, const Setting (&settings)[kCount], const Bounds& bounds, Run run) {
  for (const Kernel* kernel : kernels) {
    if (!CpuRuns(kernel->tier)) continue;
    for (const Setting& setting : settings) {
      benchmark::RegisterBenchmark(
          (std::string(kernel->name) + "/" + setting.name).c_str(),
          [&bounds, &setting, kernel, run](benchmark::State& state) { run(state, bounds, *kernel, setting); });
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
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const tfq::int4::Bounds bounds = tfq::int4::MeasureBounds();
  tfq::int4::Tell(bounds);
  tfq::int4::Register(tfq::int4::GemmKernels(), tfq::int4::kGemmSettings, bounds, tfq::int4::RunGemm);
  tfq::int4::Register(tfq::int4::DepthwiseKernels(), tfq::int4::kDepthwiseSettings, bounds, tfq::int4::RunDepthwise);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
