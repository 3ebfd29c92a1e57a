// A result that is either good or one line for the user.
#ifndef TFQ_ANDROID_BENCH_RUNNER_STATUS_H_
#define TFQ_ANDROID_BENCH_RUNNER_STATUS_H_

#include <string>
#include <utility>

namespace tfq::runner {

class [[nodiscard]] Status {
 public:
  static Status Ok() { return Status(); }
  static Status Error(std::string line) { return Status(std::move(line)); }

  bool ok() const { return ok_; }
  const std::string& line() const { return line_; }

 private:
  Status() = default;
  explicit Status(std::string line) : ok_(false), line_(std::move(line)) {}

  bool ok_ = true;
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
