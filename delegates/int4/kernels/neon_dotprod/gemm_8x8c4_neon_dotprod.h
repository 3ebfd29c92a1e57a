// Integer sums of matrix products by SDOT: eight rows, eight output channels, four input channels to a product. Of
// joined 4-bit weights (packing/joined_nibbles.h) one operand is the bytes as they lie in memory, and the other takes
// one instruction.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_DOTPROD_GEMM_8X8C4_NEON_DOTPROD_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_DOTPROD_GEMM_8X8C4_NEON_DOTPROD_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/neon/partial_load.h"
#include "delegates/int4/kernels/neon/weight_pairs_neon.h"
#include "delegates/int4/kernels/registry.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/packing/joined_nibbles.h"

namespace tfq::int4 {

constexpr int32_t kMr = 8;
constexpr int32_t kNr = 8;
constexpr int32_t kKr = 4;

template <int32_t bits>
constexpr BlockLayout kLayout = {kNr, kKr, bits, alignof(int32_t), bits == 4 ? kJoinedFlagBytes : 0};

// Four channels: lane kLane of what each row has in `a`.
template <WeightForm form, int kLane, int kRows>
static inline void AddLane(const uint8_t* group, const int8x16_t (&a)[kRows], int32x4_t (&sums)[kRows][2]) {
  const WeightPair weights = LoadWeights<form>(group);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m][0] = vdotq_laneq_s32(sums[m][0], weights.low, a[m], kLane);
    sums[m][1] = vdotq_laneq_s32(sums[m][1], weights.high, a[m], kLane);
  }
}

// Adds the products of `channels` channels of each row.
template <WeightForm form, int kRows>
static inline void AddChannels(const int8_t* const* rows, int32_t channels, const uint8_t* group,
                               int32x4_t (&sums)[kRows][2]) {
  constexpr size_t kBytes = BytesOfPair(form);
  int8x16_t a[kRows];
  ptrdiff_t c = 0;
  for (const ptrdiff_t end = channels & ~15; c < end; c += 16, group += 4 * kBytes) {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) a[m] = vld1q_s8(rows[m] + c);
    AddLane<form, 0>(group, a, sums);
    AddLane<form, 1>(group + kBytes, a, sums);
    AddLane<form, 2>(group + 2 * kBytes, a, sums);
    AddLane<form, 3>(group + 3 * kBytes, a, sums);
  }
  if (channels & 8) {
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) a[m] = vcombine_s8(vld1_s8(rows[m] + c), vdup_n_s8(0));
    AddLane<form, 0>(group, a, sums);
    AddLane<form, 1>(group + kBytes, a, sums);
    c += 8;
    group += 2 * kBytes;
  }
  for (; c < channels; c += kKr, group += kBytes) {
    const int32_t left = channels - static_cast<int32_t>(c);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      const uint32_t four = static_cast<uint32_t>(LoadPart(rows[m] + c, left < kKr ? left : kKr));
      a[m] = vreinterpretq_s8_u32(vdupq_n_u32(four));
    }
    AddLane<form, 0>(group, a, sums);
  }
}

// The loop that counts: eight rows, channels in whole groups, all taps. It stands in the order in which an in-order CPU
// should issue it: registers are loaded again as soon as they are free, and shifts stand among what is no vector
// instruction. From intrinsics GCC 12 makes another order, in which a Cortex-A55 waits half of the time.
//
// x0..x7: rows; x8, x9: the channels that the first and the second half of the loop load next; x10: turns. v16..v23:
// sixteen channels of each row; v24..v27: what meets lanes 0..3 in the sums of the first four output channels;
// v28..v31: of the second four. x11..x17: 16 to 112, where weights of 8 bits lie; a load with an index keeps pace with
// SDOT on an in-order CPU, one with a constant does not.
// One instruction a line:
// clang-format off

#define TFQ_ROW(m, a, lane, low, high)                       \
  "sdot %[low" m "].4s, v" low ".16b, v" a ".4b[" lane "]\n" \
  "sdot %[high" m "].4s, v" high ".16b, v" a ".4b[" lane "]\n"
#define TFQ_LANE_LOADING(lane, low, high, then0, then1, then2, then3, then4, then5, then6, then7) \
  TFQ_ROW("0", "16", lane, low, high) then0                                                       \
  TFQ_ROW("1", "17", lane, low, high) then1                                                       \
  TFQ_ROW("2", "18", lane, low, high) then2                                                       \
  TFQ_ROW("3", "19", lane, low, high) then3                                                       \
  TFQ_ROW("4", "20", lane, low, high) then4                                                       \
  TFQ_ROW("5", "21", lane, low, high) then5                                                       \
  TFQ_ROW("6", "22", lane, low, high) then6                                                       \
  TFQ_ROW("7", "23", lane, low, high) then7
#define TFQ_LANE_0 TFQ_LANE_LOADING("0", "24", "28", , , , , , , , )
#define TFQ_LANE_1 TFQ_LANE_LOADING("1", "25", "29", , , , , , , , )
#define TFQ_LANE_2 TFQ_LANE_LOADING("2", "26", "30", , , , , , , , )
#define TFQ_LANE_3 TFQ_LANE_LOADING("3", "27", "31", , , , , , , , )
#define TFQ_LOAD_ROW(kind, m, a, at) "ldr " kind a ", [x" m ", " at "]\n"
#define TFQ_LOAD_ROWS(kind, at)     \
  TFQ_LOAD_ROW(kind, "0", "16", at) \
  TFQ_LOAD_ROW(kind, "1", "17", at) \
  TFQ_LOAD_ROW(kind, "2", "18", at) \
  TFQ_LOAD_ROW(kind, "3", "19", at) \
  TFQ_LOAD_ROW(kind, "4", "20", at) \
  TFQ_LOAD_ROW(kind, "5", "21", at) \
  TFQ_LOAD_ROW(kind, "6", "22", at) \
  TFQ_LOAD_ROW(kind, "7", "23", at)
#define TFQ_LANE_3_LOADING_ROWS(at)                                                      \
  TFQ_LANE_LOADING("3", "27", "31",                                                      \
                   TFQ_LOAD_ROW("q", "0", "16", at), TFQ_LOAD_ROW("q", "1", "17", at),   \
                   TFQ_LOAD_ROW("q", "2", "18", at), TFQ_LOAD_ROW("q", "3", "19", at),   \
                   TFQ_LOAD_ROW("q", "4", "20", at), TFQ_LOAD_ROW("q", "5", "21", at),   \
                   TFQ_LOAD_ROW("q", "6", "22", at), TFQ_LOAD_ROW("q", "7", "23", at))

// Sixteen channels of the rows, and loads of the next sixteen; weights are loaded when the lanes that had them are
// through.
#define TFQ_STEP(after_lane_0, after_lane_1, after_lane_2, after_lane_3, at) \
  TFQ_LANE_0 after_lane_0                                                    \
  TFQ_LANE_1 after_lane_1                                                    \
  TFQ_LANE_2 after_lane_2                                                    \
  TFQ_LANE_3_LOADING_ROWS(at) after_lane_3

// setup: comes before all; start_step: loads weights of the first step; step_a, step_b: TFQ_STEP of either half of the
// loop; decode0..3: what makes the second weights of each lane; half_step, quarter_step: load weights of eight and of
// four channels; finish: follows all sums. step, half, quarter: bytes of weights; rest_of_turn: those of a turn that
// step_b has not gone on by. What follows them: clobbered registers.
#define TFQ_SUM_EIGHT_ROWS(setup, start_step, step_a, step_b, decode0, decode1, decode2, decode3, half_step,            \
                           quarter_step, finish, step, rest_of_turn, half, quarter, ...)                                \
  asm volatile(                                                                                                         \
      setup                                                                                                             \
      "ldp %q[low0], %q[high0], [%[start]]\n"                                                                           \
      TFQ_COPY("1") TFQ_COPY("2") TFQ_COPY("3") TFQ_COPY("4") TFQ_COPY("5") TFQ_COPY("6") TFQ_COPY("7")                 \
      "1:\n"                                                                                                            \
      "ldp x0, x1, [%[rows]]\n"                                                                                         \
      "ldp x2, x3, [%[rows], #16]\n"                                                                                    \
      "ldp x4, x5, [%[rows], #32]\n"                                                                                    \
      "ldp x6, x7, [%[rows], #48]\n"                                                                                    \
      "mov x8, #0\n"                                                                                                    \
      "lsr x10, %[channels], #4\n"                                                                                      \
      "cbz x10, 5f\n"                                                                                                   \
      start_step                                                                                                        \
      TFQ_LOAD_ROWS("q", "x8")                                                                                          \
      decode0 decode1 decode2 decode3                                                                                   \
      "add %[group], %[group], #" step "\n"                                                                             \
      "mov x8, #16\n"                                                                                                   \
      "mov x9, #32\n"                                                                                                   \
      "lsr x10, x10, #1\n"                                                                                              \
      "tbz %[channels], #4, 2f\n"                                                                                       \
      "cbz x10, 4f\n"                                                                                                   \
      "b 3f\n"                                                                                                          \
      "2:\n" /* An even number of steps: the first turn is its second half. */                                          \
      "mov x8, #0\n"                                                                                                    \
      "mov x9, #16\n"                                                                                                   \
      "sub %[group], %[group], #" step "\n"                                                                             \
      "b 8f\n"                                                                                                          \
      "3:\n"                                                                                                            \
      step_a                                                                                                            \
      decode0 decode1 decode2 decode3                                                                                   \
      "8:\n"                                                                                                            \
      step_b                                                                                                            \
      "add %[group], %[group], #" rest_of_turn "\n"                                                                     \
      decode0                                                                                                           \
      "add x8, x8, #32\n"                                                                                               \
      decode1                                                                                                           \
      "add x9, x9, #32\n"                                                                                               \
      decode2                                                                                                           \
      "subs x10, x10, #1\n"                                                                                             \
      decode3                                                                                                           \
      "b.ne 3b\n"                                                                                                       \
      "4:\n"                                                                                                            \
      TFQ_LANE_0 TFQ_LANE_1 TFQ_LANE_2 TFQ_LANE_3                                                                       \
      "5:\n"                                                                                                            \
      "tbz %[channels], #3, 6f\n"                                                                                       \
      half_step                                                                                                         \
      TFQ_LOAD_ROWS("d", "x8")                                                                                          \
      decode0 decode1                                                                                                   \
      "add %[group], %[group], #" half "\n"                                                                             \
      "add x8, x8, #8\n"                                                                                                \
      TFQ_LANE_0 TFQ_LANE_1                                                                                             \
      "6:\n"                                                                                                            \
      "tbz %[channels], #2, 7f\n"                                                                                       \
      quarter_step                                                                                                      \
      TFQ_LOAD_ROWS("s", "x8")                                                                                          \
      decode0                                                                                                           \
      "add %[group], %[group], #" quarter "\n"                                                                          \
      TFQ_LANE_0                                                                                                        \
      "7:\n"                                                                                                            \
      "add %[rows], %[rows], #64\n"                                                                                     \
      "subs %w[taps], %w[taps], #1\n"                                                                                   \
      "b.ne 1b\n"                                                                                                       \
      finish                                                                                                            \
      : TFQ_SUM(0), TFQ_SUM(1), TFQ_SUM(2), TFQ_SUM(3), TFQ_SUM(4), TFQ_SUM(5), TFQ_SUM(6), TFQ_SUM(7),                 \
        [group] "+r"(group), [rows] "+r"(rows), [taps] "+r"(taps)                                                       \
      : [channels] "r"(channels), [start] "r"(start)                                                                    \
      : "memory", "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "v16", "v17", "v18", "v19",  \
        "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", __VA_ARGS__)
#define TFQ_COPY(m)                    \
  "mov %[low" m "].16b, %[low0].16b\n" \
  "mov %[high" m "].16b, %[high0].16b\n"
#define TFQ_SUM(m) [low##m] "=&w"(sums[m][0]), [high##m] "=&w"(sums[m][1])

#define TFQ_LOAD_PAIR(first, second, at) "ldp q" first ", q" second ", [%[group], #" at "]\n"
#define TFQ_LOAD_AT(a, x) "ldr q" a ", [%[group], " x "]\n"
#define TFQ_LOAD_LANE(low, x_low, high, x_high) TFQ_LOAD_AT(low, x_low) TFQ_LOAD_AT(high, x_high)
#define TFQ_STEP_OF_BYTES(at)                                                                     \
  TFQ_STEP(TFQ_LOAD_LANE("24", "xzr", "28", "x11"), TFQ_LOAD_LANE("25", "x12", "29", "x13"),      \
           TFQ_LOAD_LANE("26", "x14", "30", "x15"), TFQ_LOAD_LANE("27", "x16", "31", "x17"), at)
#define TFQ_DECODE(low, high) "srshr v" high ".16b, v" low ".16b, #4\n"
#define TFQ_TAKE_OFF(m) "mls %[low" m "].4s, %[high" m "].4s, v16.4s\n"

template <WeightForm form>
static inline __attribute__((always_inline)) void SumEightRows(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group,
                                const int32_t* start, int32x4_t (&sums)[kMr][2]) {
  const int64_t channels = shape.channels;
  int32_t taps = shape.taps;
  if (form == WeightForm::kJoined) {
    TFQ_SUM_EIGHT_ROWS(
        "",
        TFQ_LOAD_PAIR("24", "25", "0") TFQ_LOAD_PAIR("26", "27", "32"),
        TFQ_STEP("", TFQ_LOAD_PAIR("24", "25", "0"), "", TFQ_LOAD_PAIR("26", "27", "32"), "x8"),
        TFQ_STEP("", TFQ_LOAD_PAIR("24", "25", "64"), "", TFQ_LOAD_PAIR("26", "27", "96"), "x9"),
        TFQ_DECODE("24", "28"), TFQ_DECODE("25", "29"), TFQ_DECODE("26", "30"), TFQ_DECODE("27", "31"),
        TFQ_LOAD_PAIR("24", "25", "0"),
        "ldr q24, [%[group]]\n",
        "movi v16.4s, #16\n"
        TFQ_TAKE_OFF("0") TFQ_TAKE_OFF("1") TFQ_TAKE_OFF("2") TFQ_TAKE_OFF("3")
        TFQ_TAKE_OFF("4") TFQ_TAKE_OFF("5") TFQ_TAKE_OFF("6") TFQ_TAKE_OFF("7"),
        "64", "128", "32", "16", "cc");
  } else {
    TFQ_SUM_EIGHT_ROWS(
        "mov x11, #16\n" "mov x12, #32\n" "mov x13, #48\n" "mov x14, #64\n" "mov x15, #80\n" "mov x16, #96\n" "mov x17, #112\n",
        TFQ_LOAD_PAIR("24", "28", "0") TFQ_LOAD_PAIR("25", "29", "32")
        TFQ_LOAD_PAIR("26", "30", "64") TFQ_LOAD_PAIR("27", "31", "96"),
        TFQ_STEP_OF_BYTES("x8"),
        "add %[group], %[group], #128\n" TFQ_STEP_OF_BYTES("x9"),
        "", "", "", "",
        TFQ_LOAD_PAIR("24", "28", "0") TFQ_LOAD_PAIR("25", "29", "32"),
        TFQ_LOAD_PAIR("24", "28", "0"),
        "",
        "128", "128", "64", "32", "cc", "x11", "x12", "x13", "x14", "x15", "x16", "x17");
  }
}

#undef TFQ_ROW
#undef TFQ_LANE_LOADING
#undef TFQ_LANE_0
#undef TFQ_LANE_1
#undef TFQ_LANE_2
#undef TFQ_LANE_3
#undef TFQ_LOAD_ROW
#undef TFQ_LOAD_ROWS
#undef TFQ_LANE_3_LOADING_ROWS
#undef TFQ_STEP
#undef TFQ_SUM_EIGHT_ROWS
#undef TFQ_COPY
#undef TFQ_SUM
#undef TFQ_LOAD_PAIR
#undef TFQ_LOAD_AT
#undef TFQ_LOAD_LANE
#undef TFQ_STEP_OF_BYTES
#undef TFQ_DECODE
#undef TFQ_TAKE_OFF

// clang-format on

// Of kRows rows over one block, whose first group is `group`; they begin with start[8].
template <WeightForm form, int kRows>
static inline void SumRows(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group,
                           const int32_t* start, int32x4_t (&sums)[kRows][2]) {
  const size_t tap_bytes = size_t(shape.channels + kKr - 1) / kKr * BytesOfPair(form);
  const int32x4_t low = vld1q_s32(start), high = vld1q_s32(start + 4);
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    sums[m][0] = low;
    sums[m][1] = high;
  }
  for (int32_t tap = 0; tap < shape.taps; ++tap, rows += kMr, group += tap_bytes) {
    AddChannels<form>(rows, shape.channels, group, sums);
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m) sums[m][0] = LowSums<form>(sums[m][0], sums[m][1]);
}

// Cases that are rare, out of the way, for any number of rows.
template <WeightForm form>
static __attribute__((noinline)) void SumRowsRarely(const GemmShape& shape, const int8_t* const* rows,
                                                    const uint8_t* group, const int32_t* start, int32x4_t (*sums)[2]) {
  int32x4_t all[kMr][2];
  SumRows<form>(shape, rows, group, start, all);
  std::memcpy(sums, all, sizeof(all));
}

// The sums of the first kRows rows over the groups that begin at `group`, of weights that are `joined` where they have
// 4 bits. They begin with start[8], of joined weights as PackJoinedBlocks() makes biases.
template <int32_t bits, int kRows>
static inline void SumGroups(const GemmShape& shape, const int8_t* const* rows, const uint8_t* group, bool joined,
                             const int32_t* start, int32x4_t (&sums)[kRows][2]) {
  constexpr WeightForm kForm = bits == 8 ? WeightForm::kBytes : WeightForm::kJoined;
  const bool separate = bits == 4 && !joined;
  if (separate || (kRows == kMr && shape.channels % kKr != 0)) {
    int32x4_t all[kMr][2];
    (separate ? SumRowsRarely<WeightForm::kSeparate> : SumRowsRarely<kForm>)(shape, rows, group, start, all);
    std::memcpy(sums, all, sizeof(sums));
  } else if constexpr (kRows == kMr) {
    SumEightRows<kForm>(shape, rows, group, start, sums);
  } else {
    SumRows<kForm>(shape, rows, group, start, sums);
  }
}

// The same over one packed block.
template <int32_t bits, int kRows>
static inline void SumBlock(const GemmShape& shape, const int8_t* const* rows, const uint8_t* block,
                            const int32_t* start, int32x4_t (&sums)[kRows][2]) {
  const bool joined = bits == 4 && IsJoined(kLayout<bits>, block);
  SumGroups<bits>(shape, rows, block + GroupsOffset(kLayout<bits>), joined, start, sums);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_DOTPROD_GEMM_8X8C4_NEON_DOTPROD_H_
