// SPDX-License-Identifier: Apache-2.0
// A warp goes along a ray, 32 samples at a time. The transmittance is multiplied up in the order of the samples, as on
// the CPU: weights and the place where a ray is cut are the same there and here.
#pragma once

#include "cuda/warp.h"
#include "ops/composite.h"

namespace nf::cuda {

// 32 samples of a ray, one per lane.
template <typename T>
struct Chunk {
  int64_t i;        // this lane's sample
  bool is_seen;     // it exists and the ray is not cut in front of it
  T alpha, weight;  // 0 unless it is seen
  T trans;          // transmittance in front of it
};

// Front to back through the chunks of a ray.
template <typename T>
struct Walk {
  const PackedSamples<T>& samples;
  int64_t next, end;
  T trans = T(1);  // transmittance in front of `next`

  __device__ bool step(Chunk<T>* chunk) {
    if (next >= end || trans < samples.stop_trans) return false;
    const int n = static_cast<int>(min(end - next, int64_t(32)));
    chunk->i = next + lane_index();
    T alpha = 0;
    if (lane_index() < n) alpha = opacity(samples.sigmas[chunk->i] * samples.delta(chunk->i));
    for (int lane = 0; lane < n; ++lane) {
      if (lane == lane_index()) chunk->trans = trans;
      trans *= __shfl_sync(kWholeWarp, T(1) - alpha, lane);
    }
    if (lane_index() >= n) chunk->trans = trans;
    const unsigned opaque = __ballot_sync(kWholeWarp, chunk->trans < samples.stop_trans);
    chunk->is_seen = lane_index() < n && !(opaque & ((2u << lane_index()) - 1));
    chunk->alpha = chunk->is_seen ? alpha : T(0);
    chunk->weight = chunk->is_seen ? chunk->trans * alpha : T(0);
    next = opaque ? end : next + n;
    return true;
  }
};

}  // namespace nf::cuda
