// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_visible.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "cpu/kilo_sort.h"
#include "cpu/kilo_tile.h"
#include "cpu/march_ray.h"
#include "cpu/packed_output.h"

namespace nf::cpu {
namespace {

constexpr int kBlockRays = 2048;  // of a task; random ones, so that all networks share their samples
constexpr int kRound = 8;         // samples of a ray between two looks at its transmittance

struct Kept {
  int32_t ray;  // of the block
  float t_start, t_end;
};

// The rays of a task: its samples that have weight, round by round, each round in the order of the rays.
class VisibleBlock {
 public:
  VisibleBlock(const KiloField& field, const FusedMarch& march) : field_(field), march_(march) {}

  std::vector<Kept> run(const FusedRays& rays, int64_t first, int n) {
    start(rays, first, n);
    while (!live_.empty()) {
      take_samples();
      evaluate();
      keep();
    }
    return std::move(kept_);
  }

 private:
  void start(const FusedRays& rays, int64_t first, int n) {
    rays_.resize(n + kLanes);
    for (int r = 0; r < n; ++r) {
      const int64_t i = first + r;
      const float jitter = march_.jitter ? march_jitter(march_.jitter_stream, i) : 0.0f;
      rays_[r] = begin_march(march_.grid, march_.lattice, rays.origins + 3 * i, rays.directions + 3 * i, march_.near,
                             march_.far, jitter);
    }
    enter_rays(march_.grid, march_.lattice, rays_.data(), n);
    trans_.assign(n, 1.0f);
    count_.assign(n, 0);
    for (int r = 0; r < n; ++r)
      if (rays_[r].t_far > 0) live_.push_back(r);
    const int64_t rows = int64_t(live_.size()) * kRound;
    for (auto* a : {&t_starts_, &t_ends_, &alpha_}) a->resize(rows + kLanes);
    local_.resize(3 * rows);
    network_.resize(rows);
    order_.resize(rows);
  }

  // Rows of this round, ray by ray. A ray that has ended gets t_far = -inf.
  void take_samples() {
    begin_.clear();
    n_rows_ = 0;
    for (const int32_t r : live_) {
      RayMarch& ray = rays_[r];
      begin_.push_back(n_rows_);
      const int wanted = std::min(kRound, march_.max_samples - count_[r]);
      const int found = next_samples(march_.grid, march_.lattice, ray, wanted, &t_starts_[n_rows_], &t_ends_[n_rows_]);
      count_[r] += found;
      if (found < kRound) ray.t_far = -INFINITY;
      for (int k = 0; k < found; ++k, ++n_rows_) {
        float x[3];
        for (int axis = 0; axis < 3; ++axis) x[axis] = madd(t_starts_[n_rows_], ray.direction[axis], ray.origin[axis]);
        network_[n_rows_] = field_.grid.locate(x, &local_[3 * n_rows_]);
        alpha_[n_rows_] = 0;
      }
    }
    begin_.push_back(n_rows_);
  }

  // Opacities of the rows that have a network.
  void evaluate() {
    const KiloShape& s = field_.shape;
    const KiloTile<float> tile(s, false);
    float depth[kKiloRows];
    const auto network = [&](const KiloChunk& chunk) { return field_.params + chunk.network * int64_t(s.n_params()); };
    const std::vector<KiloChunk> chunks =
        kilo_sort(network_.data(), n_rows_, field_.n_networks, kKiloRows, order_.data());
    for (size_t c = 0; c < chunks.size(); ++c) {
      const KiloChunk& chunk = chunks[c];
      const int32_t* rows = &order_[chunk.begin];
      const int64_t n = chunk.end - chunk.begin;
      kilo_gather<false>(local_.data(), rows, n, tile.x);
      kilo_encode_tile(tile.x, n, s.position_frequencies, tile.e_x);
      const bool changes = c + 1 < chunks.size() && chunks[c + 1].number == 0;
      NextTile next = kilo_next(s, n, false, changes ? network(chunks[c + 1]) : nullptr);
      kilo_density_tile(s, network(chunk), n, tile, next);
      for (int64_t i = 0; i < n; ++i)
        depth[i] = -field_.density_scale * std::max(tile.sigma[i], 0.0f) * (t_ends_[rows[i]] - t_starts_[rows[i]]);
      for (int64_t i = 0; i < n; i += kLanes) store(depth + i, 1.0f - exponential(load(depth + i)));
      for (int64_t i = 0; i < n; ++i) alpha_[rows[i]] = depth[i];
    }
  }

  // Front to back; rays that are opaque or have ended leave the live ones.
  void keep() {
    size_t still = 0;
    for (size_t i = 0; i < live_.size(); ++i) {
      const int32_t r = live_[i];
      float trans = trans_[r];
      for (int64_t row = begin_[i]; row < begin_[i + 1] && trans >= march_.stop_trans; ++row) {
        if (alpha_[row] <= 0) continue;
        kept_.push_back({r, t_starts_[row], t_ends_[row]});
        trans *= 1.0f - alpha_[row];
      }
      trans_[r] = trans;
      if (trans >= march_.stop_trans && rays_[r].t_far > 0) live_[still++] = r;
    }
    live_.resize(still);
  }

  const KiloField& field_;
  const FusedMarch& march_;
  std::vector<RayMarch> rays_;
  std::vector<float> trans_;
  std::vector<int32_t> count_, live_;                     // samples marched so far; rays that go on
  std::vector<int64_t> begin_;                            // first row of each live ray in this round, and their end
  std::vector<float> t_starts_, t_ends_, alpha_, local_;  // rows
  std::vector<int32_t> network_, order_;
  std::vector<Kept> kept_;
  int64_t n_rows_ = 0;
};

}  // namespace

void kilo_visible(const KiloField& field, const FusedMarch& march, const FusedRays& rays, const PackedOutput& out,
                  bool is_padded, void*) {
  const int64_t n_blocks = (rays.n + kBlockRays - 1) / kBlockRays;
  std::vector<std::vector<Kept>> blocks(static_cast<size_t>(n_blocks));
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    const int64_t first = b * kBlockRays;
    const int n = static_cast<int>(std::min<int64_t>(kBlockRays, rays.n - first));
    blocks[b] = VisibleBlock(field, march).run(rays, first, n);
    for (int r = 0; r < n; ++r) out.packed_info[2 * (first + r) + 1] = 0;
    for (const Kept& kept : blocks[b]) ++out.packed_info[2 * (first + kept.ray) + 1];
  });
  assign_places(rays.n, out);
  parallel_tasks(n_blocks, [&](int64_t b, int) {
    int64_t next[kBlockRays], first = b * kBlockRays;
    for (int64_t r = 0; r < std::min<int64_t>(kBlockRays, rays.n - first); ++r)
      next[r] = out.packed_info[2 * (first + r)];
    for (const Kept& kept : blocks[b]) {
      const int64_t ray = first + kept.ray;
      if (out.packed_info[2 * ray + 1] == 0) continue;  // no room
      const int64_t place = next[kept.ray]++;
      out.ray_indices[place] = ray;
      out.t_starts[place] = kept.t_start;
      out.t_ends[place] = kept.t_end;
    }
  });
  if (is_padded) clear_behind(out);
}

int64_t kilo_visible_scratch_bytes(int64_t, int) { return 0; }

}  // namespace nf::cpu
