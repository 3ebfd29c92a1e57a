// What this machine can do at best, measured: multiply-accumulates a second of each tier's product instruction with all
// operands in registers, and bytes a second that one thread reads. A kernel's bound is the slower of the two.
#ifndef TFQ_DELEGATES_INT4_BENCH_BOUNDS_H_
#define TFQ_DELEGATES_INT4_BENCH_BOUNDS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "delegates/int4/cpu.h"

namespace tfq::int4 {

struct Peak {
  CpuTier tier;
  std::string instruction;
  double macs_per_second;
};

struct Bandwidth {
  size_t bytes;  // read over and over
  double bytes_per_second;
};

struct Bounds {
  std::vector<Peak> peaks;            // of the tiers that this CPU runs and that have such an instruction
  std::vector<Bandwidth> bandwidths;  // smallest array first

  // Least seconds for `products` of a tier's instruction while `bytes` move once, at the bandwidth of the array that is
  // nearest in size. 0 for products on a tier without a measured peak.
  double Seconds(CpuTier tier, double products, double bytes) const;
};

// Takes about a second.
Bounds MeasureBounds();

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_BENCH_BOUNDS_H_
