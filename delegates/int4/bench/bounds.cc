#include "delegates/int4/bench/bounds.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "delegates/int4/bench/peaks/product_loop.h"

namespace tfq::int4 {
namespace {

#if defined(__x86_64__)
constexpr const ProductLoop* kLoops[] = {&kAvx2Products, &kAvx512VnniProducts, &kAvx512AmxProducts};
#elif defined(__aarch64__)
constexpr const ProductLoop* kLoops[] = {&kNeonProducts, &kNeonDotprodProducts, &kNeonI8mmProducts};
#endif

constexpr size_t kArrays[] = {size_t{1} << 15, size_t{1} << 20, size_t{8} << 20, size_t{64} << 20};

constexpr int kAttempts = 5;
constexpr double kAttemptSeconds = 0.02;

// Seconds of a round, best of several attempts: what disturbs one only makes it slower.
template <typename Run>
double BestSeconds(const Run& run) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  int64_t rounds = 1;
  for (int attempt = 0; attempt < kAttempts;) {
    const Clock::time_point start = Clock::now();
    run(rounds);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < kAttemptSeconds) {
      rounds *= 2;
      continue;
    }
    const double one = seconds / static_cast<double>(rounds);
    best = attempt == 0 ? one : std::min(best, one);
    ++attempt;
  }
  return best;
}

// As wide as the CPU loads: the compiler makes a copy for each level, and the loader picks one.
typedef uint64_t Line __attribute__((vector_size(64)));
constexpr size_t kStreams = 4;

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
void ReadLines(const Line* lines, size_t count, Line* sum) {
  Line sums[kStreams] = {};
  for (size_t i = 0; i < count; i += kStreams) {
    for (size_t s = 0; s < kStreams; ++s) sums[s] += lines[i + s];
  }
  for (const Line& one : sums) *sum += one;
}

double ReadBytesPerSecond(size_t bytes) {
  const size_t count = bytes / sizeof(Line);
  // A value other than 0, so that every page is memory of its own.
  std::vector<Line> lines(count, Line{} + 1);
  Line sum = {};
  const double seconds = BestSeconds([&](int64_t rounds) {
    for (int64_t round = 0; round < rounds; ++round) ReadLines(lines.data(), count, &sum);
  });
  asm volatile("" : : "r"(&sum) : "memory");
  return static_cast<double>(bytes) / seconds;
}

}  // namespace

double Bounds::Seconds(CpuTier tier, double products, double bytes) const {
  double seconds = 0;
  if (products > 0) {
    const auto peak = std::find_if(peaks.begin(), peaks.end(), [&](const Peak& p) { return p.tier == tier; });
    if (peak == peaks.end()) return 0;
    seconds = products / peak->macs_per_second;
  }
  const auto distance = [&](const Bandwidth& b) { return std::abs(std::log(bytes / static_cast<double>(b.bytes))); };
  const auto nearest =
      std::min_element(bandwidths.begin(), bandwidths.end(),
                       [&](const Bandwidth& a, const Bandwidth& b) { return distance(a) < distance(b); });
  return std::max(seconds, bytes / nearest->bytes_per_second);
}

Bounds MeasureBounds() {
  Bounds bounds;
  for (const ProductLoop* loop : kLoops) {
    if (!CpuRuns(loop->tier)) continue;
    bounds.peaks.push_back({loop->tier, loop->instruction, static_cast<double>(loop->macs) / BestSeconds(loop->run)});
  }
  for (const size_t bytes : kArrays) bounds.bandwidths.push_back({bytes, ReadBytesPerSecond(bytes)});
  return bounds;
}

}  // namespace tfq::int4
