// An external delegate: the pair of plugin functions that TFLite's external delegates export.
#ifndef TFQ_ANDROID_BENCH_RUNNER_DELEGATE_PLUGIN_H_
#define TFQ_ANDROID_BENCH_RUNNER_DELEGATE_PLUGIN_H_

#include <string>
#include <utility>
#include <vector>

#include "android_bench/runner/library.h"
#include "android_bench/runner/status.h"

// Opaque here: the runner only carries the pointer from the plugin to the runtime.
struct TfLiteDelegate;

namespace tfq::runner {

using DelegateOptions = std::vector<std::pair<std::string, std::string>>;

class DelegatePlugin {
 public:
  DelegatePlugin() = default;
  DelegatePlugin(const DelegatePlugin&) = delete;
  DelegatePlugin& operator=(const DelegatePlugin&) = delete;
  ~DelegatePlugin();

  Status Open(const std::string& path, const DelegateOptions& options);

  TfLiteDelegate* delegate() const { return delegate_; }

 private:
  Library library_;
  TfLiteDelegate* delegate_ = nullptr;
  void (*destroy_)(TfLiteDelegate*) = nullptr;
};

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_DELEGATE_PLUGIN_H_
