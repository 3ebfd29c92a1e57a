// A few worker threads that share out numbered tasks. One pool serves all kernels of a delegate.
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
  static void* StartWorker(void* start);

  std::vector<pthread_t> workers_;
  std::mutex turn_;  // held by the caller whose tasks are running
  std::mutex mutex_;
  std::condition_variable start_;
  std::condition_variable done_;
  int64_t round_ = 0;    // guarded by mutex_: grows by one with each RunShared
  int32_t working_ = 0;  // guarded by mutex_: workers that have not finished the round
  bool stop_ = false;    // guarded by mutex_
  std::atomic<int32_t> next_{0};
  int32_t count_ = 0;
  Call call_ = nullptr;
  const void* context_ = nullptr;
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_THREAD_POOL_H_
