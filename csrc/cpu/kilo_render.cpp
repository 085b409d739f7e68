// SPDX-License-Identifier: Apache-2.0
// A task holds some thousand neighbouring rays, which meet few networks, so each network gets a hundred samples and
// more at a time, within the caches of a core; rays advance in rounds of a few samples. Results do not depend on the
// number of threads.
#include "ops/kilo_render.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "cpu/kilo_tile.h"
#include "cpu/march_ray.h"

namespace nf::cpu {
namespace {

constexpr int kChunkRays = 4096;
constexpr int kRoundRows = 32768;  // samples of a round, at most
constexpr int kLongestRound = 32;  // samples per ray and round, at most

// Hands out aligned arrays; without memory it only counts.
class Arrays {
 public:
  explicit Arrays(char* base) : base_(base) {}
  template <typename T>
  T* take(int64_t n) {
    T* array = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (n * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return array;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

// The rays of a task and the samples of a round.
struct Chunk {
  RayMarch* march;  // rays
  float *trans, *rgb, *depth, *median_depth, *acc;
  float* skipped;                         // per ray: weight of the colours left out so far, at most kKiloSkipTotal
  int32_t *count, *live, *begin;          // begin: first row of each live ray in this round
  float *t, *dt, *local, *alpha, *color;  // rows
  int32_t *ray, *network, *order;
  int32_t *touched, *bucket;  // networks of this round; per network: its rows, then where they go

  Chunk(Arrays& arrays, int64_t n_networks) {
    march = arrays.take<RayMarch>(kChunkRays + kLanes);
    for (float** a : {&trans, &depth, &median_depth, &acc, &skipped}) *a = arrays.take<float>(kChunkRays);
    rgb = arrays.take<float>(3 * kChunkRays);
    for (int32_t** a : {&count, &live}) *a = arrays.take<int32_t>(kChunkRays);
    begin = arrays.take<int32_t>(kChunkRays + 1);
    for (float** a : {&t, &dt, &alpha}) *a = arrays.take<float>(kRoundRows + kLanes);
    for (float** a : {&local, &color}) *a = arrays.take<float>(3 * kRoundRows);
    for (int32_t** a : {&ray, &network, &order}) *a = arrays.take<int32_t>(kRoundRows);
    for (int32_t** a : {&touched, &bucket}) *a = arrays.take<int32_t>(n_networks);
  }
};

class RenderTask {
 public:
  RenderTask(const KiloField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
             const float* merged, const Chunk& chunk)
      : field_(field),
        march_(march),
        rays_(rays),
        skip_(skip_weight),
        merged_(merged),
        c_(chunk),
        tile_(field.shape, false) {
    std::fill_n(c_.bucket, field.n_networks, 0);
  }

  void run(int64_t first, int n, const FusedImage& image) {
    first_ = first;
    start(n);
    while (n_live_ > 0) {
      take_samples(std::clamp(kRoundRows / n_live_, 1, kLongestRound));
      sort_rows();
      evaluate();
      composite();
    }
    std::copy_n(c_.rgb, 3 * n, image.rgb + 3 * first);
    std::copy_n(c_.depth, n, image.depth + first);
    std::copy_n(c_.median_depth, n, image.median_depth + first);
    std::copy_n(c_.acc, n, image.acc + first);
  }

 private:
  void start(int n) {
    for (int r = 0; r < n; ++r) {
      const int64_t i = first_ + r;
      const float jitter = march_.jitter ? march_jitter(march_.jitter_stream, i) : 0.0f;
      c_.march[r] = begin_march(march_.grid, march_.lattice, rays_.origins + 3 * i, rays_.directions + 3 * i,
                                march_.near, march_.far, jitter);
    }
    enter_rays(march_.grid, march_.lattice, c_.march, n);
    std::fill_n(c_.trans, n, 1.0f);
    std::fill_n(c_.rgb, 3 * n, 0.0f);
    std::fill_n(c_.depth, n, 0.0f);
    std::fill_n(c_.acc, n, 0.0f);
    std::fill_n(c_.skipped, n, 0.0f);
    std::fill_n(c_.median_depth, n, INFINITY);
    std::fill_n(c_.count, n, 0);
    n_live_ = 0;
    for (int r = 0; r < n; ++r)
      if (c_.march[r].t_far > 0) c_.live[n_live_++] = r;
  }

  // Rows of this round, ray by ray. A ray that has ended gets t_far = -inf.
  void take_samples(int most) {
    int32_t row = 0;
    for (int i = 0; i < n_live_; ++i) {
      const int32_t r = c_.live[i];
      RayMarch& ray = c_.march[r];
      c_.begin[i] = row;
      const int wanted = std::min(most, march_.max_samples - c_.count[r]);
      const int found = next_samples(march_.grid, march_.lattice, ray, wanted, c_.t + row, c_.dt + row);
      c_.count[r] += found;
      if (found < wanted || c_.count[r] >= march_.max_samples) ray.t_far = -INFINITY, ray.pending = 0;
      for (int k = 0; k < found; ++k, ++row) {
        float x[3];
        for (int axis = 0; axis < 3; ++axis) x[axis] = madd(c_.t[row], ray.direction[axis], ray.origin[axis]);
        c_.dt[row] -= c_.t[row];
        c_.ray[row] = r;
        c_.network[row] = field_.grid.locate(x, c_.local + 3 * row);
        c_.alpha[row] = 0;
      }
    }
    c_.begin[n_live_] = n_rows_ = row;
  }

  // order: rows that have a network, network by network.
  void sort_rows() {
    n_touched_ = 0;
    for (int32_t row = 0; row < n_rows_; ++row) {
      const int32_t id = c_.network[row];
      if (id >= 0 && c_.bucket[id]++ == 0) c_.touched[n_touched_++] = id;
    }
    int32_t start = 0;
    for (int i = 0; i < n_touched_; ++i) {
      const int32_t count = c_.bucket[c_.touched[i]];
      c_.bucket[c_.touched[i]] = start;
      start += count;
    }
    for (int32_t row = 0; row < n_rows_; ++row)
      if (c_.network[row] >= 0) c_.order[c_.bucket[c_.network[row]]++] = row;
  }

  void evaluate() {
    int32_t begin = 0;
    for (int i = 0; i < n_touched_; ++i) {
      const int32_t id = c_.touched[i], end = c_.bucket[id];
      const float* next_net = i + 1 < n_touched_ ? network(c_.touched[i + 1]) : nullptr;
      NextTile next = kilo_next(field_.shape, end - begin, true, next_net);
      const int64_t w = field_.shape.width;
      tile_.m = merged_ + id * (w * w + w);
      tile_.m_bias = tile_.m + w * w;
      for (; begin < end; begin += kKiloRows)
        evaluate_tile(network(id), c_.order + begin, std::min<int64_t>(kKiloRows, end - begin), next);
      begin = end;
      c_.bucket[id] = 0;
    }
  }

  // Density of some rows of one network, and the colour of those that can be seen.
  void evaluate_tile(const float* net, const int32_t* rows, int64_t n, NextTile& next) {
    const KiloShape& s = field_.shape;
    kilo_gather<false>(c_.local, rows, n, tile_.x);
    kilo_encode_tile(tile_.x, n, s.position_frequencies, tile_.e_x);
    kilo_density_tile(s, net, n, tile_, next);
    float depth[kKiloRows];
    for (int64_t i = 0; i < n; ++i) depth[i] = -field_.density_scale * std::max(tile_.sigma[i], 0.0f) * c_.dt[rows[i]];
    for (int64_t i = 0; i < n; i += kLanes) store(depth + i, 1.0f - exponential(load(depth + i)));
    int32_t seen[kKiloRows], n_seen = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t row = rows[i], ray = c_.ray[row];
      c_.alpha[row] = depth[i];
      // trans is that before this round: no less than what will reach the sample
      const float most = depth[i] * c_.trans[ray];
      if (most <= skip_ && c_.skipped[ray] + most <= kKiloSkipTotal) {
        c_.skipped[ray] += most;
        for (int k = 0; k < 3; ++k) c_.color[3 * row + k] = 0;
        continue;
      }
      for (int axis = 0; axis < 3; ++axis) tile_.d[axis * kKiloRows + n_seen] = c_.march[ray].direction[axis];
      if (n_seen < i) std::copy_n(tile_.h1 + i * s.width, s.width, tile_.h1 + n_seen * s.width);
      seen[n_seen++] = row;
    }
    if (n_seen == 0) return;
    kilo_fill_lanes(n_seen, tile_.d);
    kilo_encode_tile(tile_.d, n_seen, s.direction_frequencies, tile_.e_d);
    kilo_color_tile(s, net, n_seen, tile_, next);
    for (int32_t i = 0; i < n_seen; ++i)
      for (int k = 0; k < 3; ++k) c_.color[3 * seen[i] + k] = tile_.rgb[3 * i + k];
  }

  // Front to back; rays that are opaque or have ended leave the live ones.
  void composite() {
    int still = 0;
    for (int i = 0; i < n_live_; ++i) {
      const int32_t r = c_.live[i];
      float trans = c_.trans[r];
      for (int32_t row = c_.begin[i]; row < c_.begin[i + 1] && trans >= march_.stop_trans; ++row) {
        if (c_.network[row] < 0) continue;
        const float weight = trans * c_.alpha[row];
        trans *= 1.0f - c_.alpha[row];
        for (int k = 0; k < 3; ++k) c_.rgb[3 * r + k] += weight * c_.color[3 * row + k];
        c_.depth[r] += weight * c_.t[row];
        c_.acc[r] += weight;
        if (trans < 0.5f && c_.median_depth[r] == INFINITY) c_.median_depth[r] = c_.t[row];
      }
      c_.trans[r] = trans;
      if (trans >= march_.stop_trans && c_.march[r].t_far > 0) c_.live[still++] = r;
    }
    n_live_ = still;
  }

  const float* network(int32_t id) const { return field_.params + id * int64_t(field_.shape.n_params()); }

  const KiloField& field_;
  const FusedMarch& march_;
  const FusedRays& rays_;
  const float skip_;
  const float* merged_;  // [n_networks, width^2 + width], see kilo_merge
  Chunk c_;
  KiloTile<float> tile_;
  int64_t first_ = 0;
  int n_live_ = 0, n_touched_ = 0;
  int32_t n_rows_ = 0;
};

}  // namespace

void kilo_render(const KiloField& field, const FusedMarch& march, const FusedRays& rays, float skip_weight,
                 const FusedImage& image, float* merged) {
  const int64_t w = field.shape.width, per_network = w * w + w;
  parallel_for(
      field.n_networks,
      [&](int64_t i) {
        float* m = merged + i * per_network;
        kilo_merge(field.shape, field.params + i * field.shape.n_params(), m, m + w * w);
      },
      16);
  parallel_tasks((rays.n + kChunkRays - 1) / kChunkRays, [&](int64_t task, int) {
    thread_local ThreadMemory memory;
    Arrays count(nullptr);
    Chunk(count, field.n_networks);
    Arrays arrays(memory.at_least<char>(count.used()));
    RenderTask render(field, march, rays, skip_weight, merged, Chunk(arrays, field.n_networks));
    const int64_t first = task * kChunkRays;
    render.run(first, static_cast<int>(std::min<int64_t>(kChunkRays, rays.n - first)), image);
  });
}

}  // namespace nf::cpu
