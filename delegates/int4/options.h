// The delegate's options: keys and values as text, from whichever program loads it.
#ifndef TFQ_DELEGATES_INT4_OPTIONS_H_
#define TFQ_DELEGATES_INT4_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "delegates/int4/cpu.h"

namespace tfq::int4 {

// Whose outputs ours equal bit for bit: kernels differ in how they round (docs/arithmetic.md). LiteRT's built-in
// kernels, those of tflite-runtime 2.14, or LiteRT as it comes: XNNPACK where that takes a node, built-in kernels
// elsewhere.
enum class Match : int32_t { kLiteRt, kTfLite214, kXnnpack };

struct Options {
  int32_t threads = 1;
  CpuTier cpu = CpuTier::kReference;  // set by ParseOptions: the highest of this architecture unless capped
  bool verbose = false;
  std::string report;   // path of the JSON report, or empty
  std::string profile;  // path of the JSON profile, or empty
  std::string cache;    // folder of packed weights, or empty
  Match match = Match::kXnnpack;
};

// Reads `count` pairs. False for a key that is unknown or given twice or a value that is not allowed; `error` is then
// one line that names the key, what was found and what is allowed.
bool ParseOptions(const char* const* keys, const char* const* values, size_t count, Options* options,
                  std::string* error);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPTIONS_H_
