// SPDX-License-Identifier: Apache-2.0
// A persistent pool of threads. Idle ones spin for a tenth of a millisecond, then sleep on a condition variable (a pool
// that goes on spinning next to torch's OpenMP threads costs up to 10x on few cores). Tasks are taken from one atomic
// counter; which thread runs a task is not defined, so determinism comes from tasks that own their outputs.
#pragma once

#include <cstdint>
#include <functional>

namespace nf {

// Number of threads used by the next parallel_for calls (>= 1); the caller is one of them.
void set_num_threads(int n);
int num_threads();

// Calls task(task_idx, thread_idx) for every task_idx in [0, n_tasks), thread_idx in [0, num_threads()).
// Runs inline when n_tasks <= 1, when one thread is configured, or inside another parallel_for.
// The first exception thrown by a task is rethrown to the caller.
void parallel_tasks(int64_t n_tasks, const std::function<void(int64_t, int)>& task);

// Splits [0, n) into blocks of at least `grain` and calls body(begin, end) for each.
template <typename Body>
void parallel_ranges(int64_t n, int64_t grain, const Body& body) {
  if (n <= 0) return;
  const int64_t n_blocks = (n + grain - 1) / grain;
  if (n_blocks == 1) {
    body(int64_t(0), n);
    return;
  }
  parallel_tasks(n_blocks, [&](int64_t block, int) {
    const int64_t begin = block * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

// Calls body(i) for every i in [0, n): the CPU counterpart of an elementwise kernel launch.
template <typename Body>
void parallel_for(int64_t n, const Body& body, int64_t grain = 4096) {
  parallel_ranges(n, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace nf
