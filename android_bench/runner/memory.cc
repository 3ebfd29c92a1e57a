#include "android_bench/runner/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>

namespace tfq::runner {

Memory ReadMemory() {
  Memory memory;
  if (std::FILE* file = std::fopen("/proc/self/status", "r")) {
    char line[256];
    long long value = 0;
    while (std::fgets(line, sizeof(line), file) != nullptr) {
      if (std::sscanf(line, "VmRSS: %lld kB", &value) == 1) memory.resident_kb = value;
      if (std::sscanf(line, "VmHWM: %lld kB", &value) == 1) memory.peak_kb = value;
    }
    std::fclose(file);
  }
  rusage usage = {};
  if (memory.peak_kb < 0 && getrusage(RUSAGE_SELF, &usage) == 0) memory.peak_kb = usage.ru_maxrss;
  return memory;
}

}  // namespace tfq::runner
