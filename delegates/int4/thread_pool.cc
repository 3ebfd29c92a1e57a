#include "delegates/int4/thread_pool.h"

#include <chrono>
#include <memory>

#include "delegates/int4/cpu.h"

namespace tfq::int4 {
namespace {

// Longer than what lies between two layers that are shared out, and nothing beside the time between two images.
constexpr std::chrono::microseconds kSpin(100);

// Pauses between two looks at the clock.
constexpr int32_t kPauses = 16;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits for `ready` without sleeping; false when it took too long.
template <typename Ready>
bool SpinUntil(const Ready& ready) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int32_t i = 0; i < kPauses; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

struct WorkerStart {
  ThreadPool* pool;
  int32_t thread;
};

}  // namespace

// pthreads rather than std::thread: a thread that cannot be started must not end a program built without exceptions.
ThreadPool::ThreadPool(int32_t threads) {
  // A thread that spins on the processor of one that works would hold it up.
  spins_ = threads <= AvailableCpus();
  workers_.reserve(static_cast<size_t>(threads));
  for (int32_t thread = 1; thread < threads; ++thread) {
    auto start = std::make_unique<WorkerStart>(WorkerStart{this, thread});
    pthread_t worker;
    if (pthread_create(&worker, nullptr, StartWorker, start.get()) != 0) break;
    start.release();
    workers_.push_back(worker);
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  start_.notify_all();
  for (const pthread_t worker : workers_) pthread_join(worker, nullptr);
}

void* ThreadPool::StartWorker(void* argument) {
  const std::unique_ptr<WorkerStart> start(static_cast<WorkerStart*>(argument));
  start->pool->WorkerLoop(start->thread);
  return nullptr;
}

void ThreadPool::Work(int32_t thread) {
  for (int32_t index = next_.fetch_add(1); index < count_; index = next_.fetch_add(1)) call_(context_, index, thread);
}

// The next round that is open, or `seen` when there will be none.
uint32_t ThreadPool::NextRound(uint32_t seen) {
  uint32_t round = seen;
  const auto ready = [&] {
    round = round_;
    return stop_ || (round % 2 == 1 && round != seen);
  };
  if (!spins_ || !SpinUntil(ready)) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++sleeping_;
    start_.wait(lock, ready);
    --sleeping_;
  }
  return stop_ ? seen : round;
}

void ThreadPool::WorkerLoop(int32_t thread) {
  uint32_t seen = 0;
  for (uint32_t round = NextRound(seen); round != seen; round = NextRound(seen)) {
    seen = round;
    ++active_;
    if (round_ == round) Work(thread);
    if (--active_ == 0 && caller_sleeps_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      done_.notify_one();
    }
  }
}

void ThreadPool::AwaitWorkers() {
  const auto ready = [&] { return active_ == 0; };
  if (ready() || (spins_ && SpinUntil(ready))) return;
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_ = true;
  done_.wait(lock, ready);
  caller_sleeps_ = false;
}

void ThreadPool::RunShared(int32_t count, Call call, const void* context) {
  const std::lock_guard<std::mutex> turn(turn_);
  count_ = count;
  call_ = call;
  context_ = context;
  next_ = 0;
  ++round_;
  if (sleeping_ > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    start_.notify_all();
  }
  Work(0);
  ++round_;
  AwaitWorkers();
}

}  // namespace tfq::int4
