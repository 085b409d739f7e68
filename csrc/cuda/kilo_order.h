// SPDX-License-Identifier: Apache-2.0
// Rounds of samples of rays through tiny networks, a sample to a thread: brought into an order by network, so that
// tiles (kilo_tile.h) take them together.
#pragma once

#include "cuda/kilo_tile.h"

namespace nf::cuda {

constexpr int kKiloWarps = kKiloThreads / 32;

// The order in which tiles take the samples of a round, one per thread: groups of four samples, or places without one,
// of a network each.
struct Order {
  int32_t sample[4 * kKiloThreads];  // a thread, or -1
  int32_t network[kKiloThreads];     // of each group
  int32_t first[kKiloWarps], count[kKiloWarps];
};

// Orders the samples of the threads that have one, and returns how many places they take. Networks come in the order of
// their first threads.
NF_DEVICE int order_by_network(bool has_sample, int32_t network, Order& order) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int n_places = 0;
  for (bool waits = has_sample;;) {
    const unsigned waiting = __ballot_sync(~0u, waits);
    const int32_t leading = __shfl_sync(~0u, network, waiting ? __ffs(static_cast<int>(waiting)) - 1 : 0);
    if (lane == 0) order.first[warp] = waiting ? leading : -1;
    __syncthreads();
    int32_t chosen = -1;
    for (int w = kKiloWarps - 1; w >= 0; --w)
      if (order.first[w] >= 0) chosen = order.first[w];
    if (chosen < 0) return n_places;
    const bool is_chosen = waits && network == chosen;
    const unsigned mine = __ballot_sync(~0u, is_chosen);
    if (lane == 0) order.count[warp] = __popc(mine);
    __syncthreads();
    int place = n_places + __popc(mine & ((1u << lane) - 1)), count = 0;
    for (int w = 0; w < kKiloWarps; ++w) {
      if (w < warp) place += order.count[w];
      count += order.count[w];
    }
    if (is_chosen) {
      order.sample[place] = threadIdx.x;
      waits = false;
    }
    const int n_groups = (count + 3) / 4;
    if (static_cast<int>(threadIdx.x) < 4 * n_groups - count) order.sample[n_places + count + threadIdx.x] = -1;
    if (static_cast<int>(threadIdx.x) < n_groups) order.network[n_places / 4 + threadIdx.x] = chosen;
    n_places += 4 * n_groups;
  }
}

// Opacity of a row whose h1 is there; `thickness`: optical, of a density of one.
NF_DEVICE float opacity_of(const KiloShape& s, const float* net, const float* h1, int row, float thickness) {
  return 1.0f - exponential(-max(density_of(s, net, h1, row), 0.0f) * thickness);
}

}  // namespace nf::cuda
