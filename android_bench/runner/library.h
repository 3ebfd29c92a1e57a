// A shared library opened at run time. It stays until the process ends: runtimes leave threads and exit handlers
// behind, and libLiteRt.so crashes when it is unloaded.
#ifndef TFQ_ANDROID_BENCH_RUNNER_LIBRARY_H_
#define TFQ_ANDROID_BENCH_RUNNER_LIBRARY_H_

#include <string>

#include "android_bench/runner/status.h"

namespace tfq::runner {

class Library {
 public:
  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  Status Open(const std::string& path);

  // nullptr when the library has no such symbol.
  void* Find(const char* symbol) const;

  // Points `function` at the symbol, or says which library lacks it.
  template <typename Function>
  Status Bind(const char* symbol, Function** function) const {
    *function = reinterpret_cast<Function*>(Find(symbol));
    if (*function == nullptr) {
      return Status::Error(path_ + ": no symbol " + symbol + " in this library; use a version that is known to work");
    }
    return Status::Ok();
  }

 private:
  void* handle_ = nullptr;
  std::string path_;
};

}  // namespace tfq::runner

#endif  // TFQ_ANDROID_BENCH_RUNNER_LIBRARY_H_
