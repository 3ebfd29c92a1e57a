// How long each node took: option `profile`.
//
// A runtime sees a partition as one node. Its profiler is a C++ object whose virtual functions differ between releases,
// so a delegate that is not built with the runtime cannot call it; it keeps its own times and writes them to a file.
#ifndef TFQ_DELEGATES_INT4_PROFILE_H_
#define TFQ_DELEGATES_INT4_PROFILE_H_

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

struct NodeProfile {
  int32_t node;
  std::string op;
  std::string kernel;
  Shapes inputs;  // as last prepared
  Shapes outputs;
  std::vector<int64_t> times_ns;  // of each call, in order
};

// Calls of one node whose times are kept; later ones are not counted.
constexpr size_t kMaxProfiledCalls = 10000;

// {"nodes": [{"node", "op", "kernel", "inputs", "outputs", "calls", "total_us", "min_us", "median_us", "times_us"}]},
// nodes that never ran left out.
std::string ProfileJson(const std::vector<NodeProfile>& nodes);

// The profiles of all partitions of a delegate. Safe to use from several threads.
class Profile {
 public:
  // An empty path: no profile is wanted.
  explicit Profile(std::string path) : path_(std::move(path)) {}

  bool wanted() const { return !path_.empty(); }

  // Takes what a partition measured when its graph goes, and writes the file anew.
  void Add(std::vector<NodeProfile> nodes);

 private:
  const std::string path_;
  std::mutex mutex_;
  std::vector<NodeProfile> nodes_;  // guarded by mutex_
};

// Adds the time from here to the end of the block to a node's, if a profile is wanted.
class TimeCall {
 public:
  TimeCall(const Profile& profile, NodeProfile* node)
      : times_(profile.wanted() && node->times_ns.size() < kMaxProfiledCalls ? &node->times_ns : nullptr) {
    if (times_ != nullptr) start_ = Clock::now();
  }
  ~TimeCall() {
    if (times_ == nullptr) return;
    times_->push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count());
  }
  TimeCall(const TimeCall&) = delete;
  TimeCall& operator=(const TimeCall&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<int64_t>* times_;
  Clock::time_point start_;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_PROFILE_H_
