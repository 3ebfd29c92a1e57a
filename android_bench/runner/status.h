// A result that is either good or one line for the user.
#ifndef TFQ_ANDROID_BENCH_RUNNER_STATUS_H_
#define TFQ_ANDROID_BENCH_RUNNER_STATUS_H_

#include <string>
#include <utility>

namespace tfq::runner {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(0, ""); }
  // The device or the runtime failed.
  static Status Error(std::string line) { return Status(3, std::move(line)); }
  // What the user gave cannot be used: a flag, a file, a model.
  static Status BadInput(std::string line) { return Status(2, std::move(line)); }

  bool ok() const { return exit_code_ == 0; }
  int exit_code() const { return exit_code_; }
  const std::string& line() const { return line_; }

 private:
  Status(int exit_code, std::string line) : exit_code_(exit_code), line_(std::move(line)) {}

  int exit_code_;
  std::string line_;
};

}  // namespace tfq::runner

#define TFQ_RETURN_IF_ERROR(expression)                                \
  do {                                                                 \
    if (::tfq::runner::Status status_ = (expression); !status_.ok()) { \
      return status_;                                                  \
    }                                                                  \
  } while (false)

#endif  // TFQ_ANDROID_BENCH_RUNNER_STATUS_H_
