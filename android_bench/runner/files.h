// Whole files in, whole files out: a result is written beside its place and renamed, so a half-written one is never
// seen.
#ifndef TFQ_ANDROID_BENCH_RUNNER_FILES_H_
#define TFQ_ANDROID_BENCH_RUNNER_FILES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "android_bench/runner/status.h"

namespace tfq::runner {

Status ReadFile(const std::string& path, std::vector<uint8_t>* bytes);
Status WriteFile(const std::string& path, const void* data, size_t size);

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_FILES_H_
