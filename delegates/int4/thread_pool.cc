#include "delegates/int4/thread_pool.h"

#include <memory>

namespace tfq::int4 {
namespace {

struct WorkerStart {
  ThreadPool* pool;
  int32_t thread;
};

}  // namespace

// pthreads rather than std::thread: a thread that cannot be started must not end a program built without exceptions.
ThreadPool::ThreadPool(int32_t threads) {
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

void ThreadPool::WorkerLoop(int32_t thread) {
  int64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    start_.wait(lock, [&] { return stop_ || round_ != seen; });
    if (stop_) return;
    seen = round_;
    lock.unlock();
    Work(thread);
    lock.lock();
    if (--working_ == 0) done_.notify_one();
  }
}

void ThreadPool::RunShared(int32_t count, Call call, const void* context) {
  const std::lock_guard<std::mutex> turn(turn_);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    count_ = count;
    call_ = call;
    context_ = context;
    next_ = 0;
    working_ = static_cast<int32_t>(workers_.size());
    ++round_;
  }
  start_.notify_all();
  Work(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return working_ == 0; });
}

}  // namespace tfq::int4
