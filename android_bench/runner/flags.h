// The runner's command line. Names and meanings are benchmark_model's where it has them.
#ifndef TFQ_ANDROID_BENCH_RUNNER_FLAGS_H_
#define TFQ_ANDROID_BENCH_RUNNER_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "android_bench/runner/delegate_plugin.h"
#include "android_bench/runner/status.h"

namespace tfq::runner {

struct Flags {
  std::string graph;
  std::string runtime = "litert";
  std::string runtime_library;
  std::string runtime_version;
  int64_t num_threads = 1;
  int64_t num_runs = 50;
  int64_t warmup_runs = 1;
  double min_secs = 1.0;
  double max_secs = 150.0;
  double run_delay = -1.0;
  int64_t seed = 0;
  bool use_xnnpack = true;
  bool enable_op_profiling = false;
  std::string external_delegate_path;
  DelegateOptions external_delegate_options;
  std::string delegate_report;
  std::vector<std::string> input;
  std::vector<std::string> input_type;
  std::string output_prefix;
  std::string output_json;
};

Status ParseFlags(int argc, char** argv, Flags* flags);

// "key:value;key:value"; a value may hold colons, a key may not. An entry without a colon is an error.
Status ParseDelegateOptions(const std::string& text, DelegateOptions* options);

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_FLAGS_H_
