// A few worker threads that share out numbered tasks. One pool serves all kernels of a delegate.
//
// A worker without work spins for a moment, which bridges the time from one layer to the next, and then sleeps.
#ifndef TFQ_DELEGATES_INT4_THREAD_POOL_H_
#define TFQ_DELEGATES_INT4_THREAD_POOL_H_

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace tfq::int4 {

class ThreadPool {
 public:
  // The caller of Run() is one of the threads, so `threads` = 1 starts none. Where the system refuses a thread, there
  // are fewer.
  explicit ThreadPool(int32_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int32_t threads() const { return static_cast<int32_t>(workers_.size()) + 1; }

  // Calls task(index, thread) once for each index in 0..count-1 and returns when all are done; `thread`,
  // 0..threads()-1, differs between calls that run at the same time. Callers on several threads take turns.
  template <typename Task>
  void Run(int32_t count, const Task& task) {
    if (workers_.empty() || count <= 1) {
      for (int32_t index = 0; index < count; ++index) task(index, 0);
      return;
    }
    RunShared(
        count,
        [](const void* context, int32_t index, int32_t thread) { (*static_cast<const Task*>(context))(index, thread); },
        &task);
  }

 private:
  using Call = void (*)(const void* context, int32_t index, int32_t thread);

  void RunShared(int32_t count, Call call, const void* context);
  void Work(int32_t thread);
  void WorkerLoop(int32_t thread);
  uint32_t NextRound(uint32_t seen);
  void AwaitWorkers();
  static void* StartWorker(void* start);

  std::vector<pthread_t> workers_;
  bool spins_ = false;
  std::mutex turn_;  // held by the caller whose tasks are running

  // Odd while tasks may be taken, even between; grows with every change. A worker enters a round by counting itself
  // into active_ and looking again whether the round is still open; the caller closes it and waits until active_ is 0.
  // So nobody waits for a worker that wakes up late.
  std::atomic<uint32_t> round_{0};
  std::atomic<int32_t> active_{0};
  std::atomic<int32_t> next_{0};
  std::atomic<bool> stop_{false};
  int32_t count_ = 0;  // these three change while round_ is even and active_ is 0
  Call call_ = nullptr;
  const void* context_ = nullptr;

  // Who sleeps has said so before it looked a last time for a reason not to.
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  std::atomic<int32_t> sleeping_{0};
  std::atomic<bool> caller_sleeps_{false};
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_THREAD_POOL_H_
