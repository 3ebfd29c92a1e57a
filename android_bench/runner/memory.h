// What the process holds in memory, from /proc/self/status.
#ifndef TFQ_ANDROID_BENCH_RUNNER_MEMORY_H_
#define TFQ_ANDROID_BENCH_RUNNER_MEMORY_H_

#include <cstdint>

namespace tfq::runner {

struct Memory {
  int64_t resident_kb = -1;  // VmRSS, -1 where the kernel does not say
  int64_t peak_kb = -1;      // VmHWM
};

Memory ReadMemory();

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_MEMORY_H_
