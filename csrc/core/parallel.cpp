// SPDX-License-Identifier: Apache-2.0
#include "core/parallel.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace nf {
namespace {

thread_local bool inside_task = false;

// Training calls the pool every few hundred microseconds, and waking a sleeping core takes about as long as a small
// kernel: threads look for the next call, and callers for the last task, this long before they sleep.
constexpr auto kSpin = std::chrono::microseconds(100);

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Condition>
void spin_until(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (!condition() && std::chrono::steady_clock::now() < deadline) relax();
}

class ThreadPool {
 public:
  void run(int64_t n_tasks, int n_threads, const std::function<void(int64_t, int)>& task) {
    std::lock_guard<std::mutex> one_caller(call_mutex_);
    grow(n_threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      task_ = &task;
      n_tasks_ = n_tasks;
      next_.store(0);
      active_ = n_threads - 1;
      pending_.store(n_threads - 1);
      error_ = nullptr;
      generation_.fetch_add(1);
    }
    wake_.notify_all();
    work(task, n_tasks, 0);
    const auto done = [&] { return pending_.load() == 0; };
    spin_until(done);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, done);
    task_ = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void grow(int n_workers) {
    while (static_cast<int>(workers_.size()) < n_workers) {
      const int worker = static_cast<int>(workers_.size());
      workers_.emplace_back([this, worker, seen = generation_.load()]() mutable { loop(worker, seen); });
      workers_.back().detach();
    }
  }

  void loop(int worker, uint64_t seen) {
    const auto called = [&] { return generation_.load() != seen; };
    for (;;) {
      const std::function<void(int64_t, int)>* task = nullptr;
      int64_t n_tasks = 0;
      spin_until(called);
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, called);
        seen = generation_.load();
        if (worker >= active_) continue;
        task = task_;
        n_tasks = n_tasks_;
      }
      work(*task, n_tasks, worker + 1);
      std::lock_guard<std::mutex> lock(mutex_);
      if (pending_.fetch_sub(1) == 1) done_.notify_one();
    }
  }

  void work(const std::function<void(int64_t, int)>& task, int64_t n_tasks, int thread_idx) {
    inside_task = true;
    try {
      for (int64_t i = next_.fetch_add(1); i < n_tasks; i = next_.fetch_add(1)) task(i, thread_idx);
    } catch (...) {
      next_.store(n_tasks);
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    inside_task = false;
  }

  std::mutex call_mutex_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const std::function<void(int64_t, int)>* task_ = nullptr;
  std::atomic<int64_t> next_{0};
  int64_t n_tasks_ = 0;
  int active_ = 0;
  std::atomic<int> pending_{0};
  std::atomic<uint64_t> generation_{0};
  std::exception_ptr error_;
};

// Never destroyed: detached workers may outlive static destruction. Rebuilt in a forked child, where the
// parent's threads do not exist.
ThreadPool& pool() {
  static ThreadPool* instance = new ThreadPool;
  static pid_t owner = getpid();
  if (owner != getpid()) {
    instance = new ThreadPool;
    owner = getpid();
  }
  return *instance;
}

std::atomic<int> configured_threads{0};

}  // namespace

void set_num_threads(int n) { configured_threads.store(n < 1 ? 1 : n); }

int num_threads() {
  const int n = configured_threads.load();
  if (n > 0) return n;
  const int hardware = static_cast<int>(std::thread::hardware_concurrency());
  return hardware > 0 ? hardware : 1;
}

void parallel_tasks(int64_t n_tasks, const std::function<void(int64_t, int)>& task) {
  if (n_tasks <= 0) return;
  const int64_t wanted = num_threads() < n_tasks ? num_threads() : n_tasks;
  if (wanted <= 1 || inside_task) {
    for (int64_t i = 0; i < n_tasks; ++i) task(i, 0);
    return;
  }
  pool().run(n_tasks, static_cast<int>(wanted), task);
}

}  // namespace nf
