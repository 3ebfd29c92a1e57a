// Thirty-two table look-ups at a time: four TBL of 64 entries for each sixteen; an index outside a quarter leaves what
// the others found.
#include <arm_neon.h>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int64_t kValues = 32;
constexpr uint8_t kQuarter = 64;

// `turns` (1 or more) of thirty-two values. The table stays in v16..v31, where GCC 12 would load it again in every
// turn. As unsigned bytes, which TBL takes, the values from 0 on come first.
inline void LookUp(const int8_t* table, int64_t turns, const int8_t* in, int8_t* out) {
  const int8_t* quarter = table + 128;
  asm volatile(
      "ld1 {v16.16b-v19.16b}, [%[quarter]], #64\n"
      "ld1 {v20.16b-v23.16b}, [%[quarter]]\n"
      "ld1 {v24.16b-v27.16b}, [%[table]], #64\n"
      "ld1 {v28.16b-v31.16b}, [%[table]]\n"
      "1:\n"
      "ldp q0, q1, [%[in]], #32\n"
      "tbl v2.16b, {v16.16b-v19.16b}, v0.16b\n"
      "tbl v3.16b, {v16.16b-v19.16b}, v1.16b\n"
      "sub v0.16b, v0.16b, %[step].16b\n"
      "sub v1.16b, v1.16b, %[step].16b\n"
      "tbx v2.16b, {v20.16b-v23.16b}, v0.16b\n"
      "tbx v3.16b, {v20.16b-v23.16b}, v1.16b\n"
      "sub v0.16b, v0.16b, %[step].16b\n"
      "sub v1.16b, v1.16b, %[step].16b\n"
      "tbx v2.16b, {v24.16b-v27.16b}, v0.16b\n"
      "tbx v3.16b, {v24.16b-v27.16b}, v1.16b\n"
      "sub v0.16b, v0.16b, %[step].16b\n"
      "sub v1.16b, v1.16b, %[step].16b\n"
      "tbx v2.16b, {v28.16b-v31.16b}, v0.16b\n"
      "tbx v3.16b, {v28.16b-v31.16b}, v1.16b\n"
      "subs %[turns], %[turns], #1\n"
      "stp q2, q3, [%[out]], #32\n"
      "b.ne 1b\n"
      : [quarter] "+r"(quarter), [table] "+r"(table), [turns] "+r"(turns), [in] "+r"(in), [out] "+r"(out)
      : [step] "w"(vdupq_n_u8(kQuarter))
      : "cc", "memory", "v0", "v1", "v2", "v3", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",
        "v26", "v27", "v28", "v29", "v30", "v31");
}

void Run(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  const int64_t turns = count / kValues;
  if (turns > 0) LookUp(table, turns, in, out);
  for (int64_t i = turns * kValues; i < count; ++i) out[i] = table[in[i] + 128];
}

}  // namespace

const LookupKernel vlut_qs8_u32_neon = {"vlut_qs8_u32_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
