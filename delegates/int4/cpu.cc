#include "delegates/int4/cpu.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#endif

namespace tfq::int4 {
namespace {

struct NamedTier {
  const char* name;
  CpuTier tier;
};

constexpr NamedTier kTiers[] = {
    {"reference", CpuTier::kReference},  {"neon", CpuTier::kNeon}, {"neon_dotprod", CpuTier::kNeonDotprod},
    {"neon_i8mm", CpuTier::kNeonI8mm},   {"avx2", CpuTier::kAvx2}, {"avx512_vnni", CpuTier::kAvx512Vnni},
    {"avx512_amx", CpuTier::kAvx512Amx},
};

#if defined(__x86_64__)
constexpr CpuTier kHighestTier = CpuTier::kAvx512Amx;
#elif defined(__aarch64__)
constexpr CpuTier kHighestTier = CpuTier::kNeonI8mm;
#else
constexpr CpuTier kHighestTier = CpuTier::kReference;
#endif

#if defined(__x86_64__)
// Whether the CPU has tiles of int8 and the system lets this process use them. Linux does so on request, for then it
// has more to save at every switch; the permission holds for all threads.
bool TilesAreAllowed() {
  constexpr uint32_t kTilesOfInt8 = 3u << 24;  // in EDX of leaf 7
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool allowed = [&] {
    uint32_t eax, ebx, ecx, edx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTilesOfInt8) != kTilesOfInt8) return false;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return allowed;
}
#endif

}  // namespace

const char* CpuTierName(CpuTier tier) {
  for (const NamedTier& known : kTiers) {
    if (known.tier == tier) return known.name;
  }
  return "unknown";
}

bool ParseCpuTier(const char* name, CpuTier* tier) {
  if (std::strcmp(name, "auto") == 0) {
    *tier = kHighestTier;
    return true;
  }
  for (const NamedTier& known : kTiers) {
    if (std::strcmp(name, known.name) == 0) {
      *tier = known.tier;
      return true;
    }
  }
  return false;
}

bool CpuRuns(CpuTier tier) {
  switch (tier) {
    case CpuTier::kReference:
      return true;
#if defined(__x86_64__)
    // These also ask the operating system for the wide registers.
    case CpuTier::kAvx2:
      return __builtin_cpu_supports("avx2") != 0;
    case CpuTier::kAvx512Vnni:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
    case CpuTier::kAvx512Amx:
      return CpuRuns(CpuTier::kAvx512Vnni) && __builtin_cpu_supports("gfni") && TilesAreAllowed();
#elif defined(__aarch64__)
    case CpuTier::kNeon:
      return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
    case CpuTier::kNeonDotprod:
      return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
    case CpuTier::kNeonI8mm:
      return CpuRuns(CpuTier::kNeonDotprod) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0;
#endif
    default:
      return false;
  }
}

CpuTier BestCpuTier() {
  CpuTier best = CpuTier::kReference;
  for (const NamedTier& known : kTiers) {
    if (CpuRuns(known.tier) && known.tier > best) best = known.tier;
  }
  return best;
}

int32_t AvailableCpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int32_t>(std::max<long>(1, sysconf(_SC_NPROCESSORS_ONLN)));  // more than a cpu_set_t counts
}

}  // namespace tfq::int4
