// What the CPU can do, asked once of the operating system.
#ifndef TFQ_DELEGATES_INT4_CPU_H_
#define TFQ_DELEGATES_INT4_CPU_H_

#include <cstdint>

namespace tfq::int4 {

// Ordered within an architecture: a cap at a tier allows that tier and all below.
enum class CpuTier {
  kReference = 0,
  kNeon = 1,
  kNeonDotprod = 2,
  kNeonI8mm = 3,
  kAvx2 = 17,
  kAvx512Vnni = 18,
  kAvx512Amx = 19,
};

const char* CpuTierName(CpuTier tier);               // the name of its folder in kernels/
bool ParseCpuTier(const char* name, CpuTier* tier);  // also "auto": the highest of this architecture
CpuTier BestCpuTier();                               // what this CPU runs
bool CpuRuns(CpuTier tier);

// Processors that this process may run on, at least 1.
int32_t AvailableCpus();

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_CPU_H_
