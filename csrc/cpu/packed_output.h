// SPDX-License-Identifier: Apache-2.0
// Where the samples of each ray go in a packed output, once their numbers are known, and what is behind them.
#pragma once

#include <algorithm>

#include "core/parallel.h"
#include "ops/march.h"

namespace nf::cpu {

// Turns the counts of packed_info into places, and fills `counts`.
inline void assign_places(int64_t n_rays, const PackedOutput& out) {
  int64_t end = 0, kept = 0, dropped = 0;
  for (int64_t ray = 0; ray < n_rays; ++ray) {
    int64_t* info = out.packed_info + 2 * ray;
    end += info[1];
    if (end > out.capacity) {
      dropped += info[1] > 0;
      info[1] = 0;
    }
    info[0] = kept;
    kept += info[1];
  }
  out.counts[0] = kept;
  out.counts[1] = dropped;
  out.counts[2] = end;
}

// Zeros behind the samples.
inline void clear_behind(const PackedOutput& out) {
  const int64_t kept = out.counts[0];
  parallel_ranges(out.capacity - kept, 1 << 16, [&](int64_t begin, int64_t end) {
    std::fill_n(out.ray_indices + kept + begin, end - begin, int64_t(0));
    std::fill_n(out.t_starts + kept + begin, end - begin, 0.0f);
    std::fill_n(out.t_ends + kept + begin, end - begin, 0.0f);
  });
}

}  // namespace nf::cpu
