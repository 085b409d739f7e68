// SPDX-License-Identifier: Apache-2.0
// An Adam step of a grid encoding's table, level by level: each level's gradient is scattered into a reused buffer and
// used while it is in cache.
#pragma once

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "cpu/adam.h"
#include "math/hash_grid.h"

namespace nf::cpu {

// The costly fine levels first, but for the second task: a level half as long lets one thread scatter, which is
// arithmetic, while another is in Adam, which waits for memory. In step they would be up to 9 % slower.
inline int level_of_task(int n_levels, int task) {
  const int second = n_levels / 4;
  if (task == 1) return second;
  const int level = n_levels - std::max(task, 1);
  return level > second || task == 0 ? level : level - 1;
}

// scatter(level_idx, gradient) adds the gradients of all samples to a level's zeroed buffer. `grad_scratch` [n_threads,
// values of the largest level] is zero on entry and, with zero_grad, on return; arrays.grad is not used.
template <typename Scatter>
void table_adam(const std::vector<GridLevel>& levels, int n_features, const AdamStep<float>& run,
                const AdamArrays<float>& arrays, float* grad_scratch, const Scatter& scatter) {
  int64_t largest = 0;
  for (const GridLevel& level : levels) largest = std::max<int64_t>(largest, level.n_entries);
  const int n_levels = static_cast<int>(levels.size());
  parallel_tasks(n_levels, [&](int64_t task, int thread_idx) {
    const int l = level_of_task(n_levels, static_cast<int>(task));
    AdamArrays<float> level = arrays.from(levels[l].offset * n_features);
    level.grad = grad_scratch + thread_idx * largest * n_features;
    scatter(l, level.grad);
    run(level, int64_t(levels[l].n_entries) * n_features);
  });
}

}  // namespace nf::cpu
