// SPDX-License-Identifier: Apache-2.0
#include "ops/occupancy.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

constexpr int64_t kBlock = 1 << 15;  // cells per task; the unit of the fixed summation order

void carry_to_coarser(uint8_t* bitfield, int32_t n_cascades, int32_t log2_resolution) {
  const int64_t bytes = int64_t(1) << (3 * log2_resolution - 3);
  for (int32_t k = 0; k + 1 < n_cascades; ++k)
    parallel_for(bytes / 8, OccupancyCarry{bitfield + k * bytes, bitfield + (k + 1) * bytes, log2_resolution}, 1024);
}

// One sweep of the distance transform over n^3 blocks: a block is at most one further than its 13 neighbours that come
// earlier in raster order (sign -1) or later (sign 1). A sweep each way gives the exact Chebyshev distance.
void sweep_distances(uint8_t* distances, int n, int sign) {
  for (int i = 0; i < n * n * n; ++i) {
    const int block = sign < 0 ? i : n * n * n - 1 - i;
    const int x = block % n, y = block / n % n, z = block / n / n;
    int nearest = distances[block];
    for (int neighbour = 0; neighbour < 13; ++neighbour) {
      const int u = x + sign * (1 - neighbour % 3), v = y + sign * (1 - neighbour / 3 % 3);
      const int w = z + sign * (1 - neighbour / 9);
      if (u < 0 || v < 0 || w < 0 || u >= n || v >= n || w >= n) continue;
      nearest = std::min(nearest, distances[u + n * (v + n * w)] + 1);
    }
    distances[block] = static_cast<uint8_t>(nearest);
  }
}

}  // namespace

void occupancy_coarse(const uint8_t* bitfield, int32_t n_cascades, int32_t log2_resolution, uint8_t* coarse) {
  const int n = (1 << log2_resolution) / kCoarseWidth;
  parallel_tasks(n_cascades, [&](int64_t cascade, int) {
    uint8_t* distances = coarse + cascade * n * n * n;
    const uint8_t* bits = bitfield + (cascade << (3 * log2_resolution - 3));
    for (int32_t code = 0; code < n * n * n; ++code) {
      int32_t place;
      const bool any = block_is_occupied(bits, code, n, &place);
      distances[place] = static_cast<uint8_t>(any ? 0 : n);
    }
    sweep_distances(distances, n, -1);
    sweep_distances(distances, n, 1);
  });
}

void occupancy_bits(const float* density_grid, const float* threshold, int32_t n_cascades, int32_t log2_resolution,
                    uint8_t* bitfield, uint8_t* coarse) {
  const int64_t n_bytes = int64_t(n_cascades) << (3 * log2_resolution - 3);
  parallel_for(n_bytes, OccupancyBits{density_grid, threshold, bitfield});
  carry_to_coarser(bitfield, n_cascades, log2_resolution);
  occupancy_coarse(bitfield, n_cascades, log2_resolution, coarse);
}

int64_t occupancy_scratch_bytes(int64_t) { return 0; }

void occupancy_mean(const float* density_grid, int64_t n, double* mean, void*) {
  std::vector<double> sums(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_ranges(n, kBlock, [&](int64_t begin, int64_t end) {
    double lanes[8] = {};
    for (int64_t i = begin; i < end; ++i) lanes[i & 7] += std::max(density_grid[i], 0.0f);
    for (double lane : lanes) sums[begin / kBlock] += lane;
  });
  double sum = 0;
  for (double s : sums) sum += s;
  *mean = n > 0 ? sum / static_cast<double>(n) : 0;
}

void occupancy_select(const float* density_grid, float threshold, int64_t n, int32_t* cells, int64_t* n_selected,
                      void*) {
  std::vector<int64_t> places(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_ranges(n, kBlock, [&](int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t i = begin; i < end; ++i) count += density_grid[i] > threshold;
    places[begin / kBlock] = count;
  });
  int64_t total = 0;
  for (int64_t& place : places) {
    const int64_t count = place;
    place = total;
    total += count;
  }
  parallel_ranges(n, kBlock, [&](int64_t begin, int64_t end) {
    int32_t* out = cells + places[begin / kBlock];
    for (int64_t i = begin; i < end; ++i)
      if (density_grid[i] > threshold) *out++ = static_cast<int32_t>(i);
  });
  *n_selected = total;
}

void occupancy_draw(const int32_t* cells, const int64_t* n_cells, int64_t n_samples, int32_t log2_resolution,
                    uint64_t stream, uint32_t dimension, int64_t* drawn, float* positions) {
  parallel_for(n_samples,
               OccupancyDraw{cells, n_cells, n_samples, log2_resolution, stream, dimension, drawn, positions});
}

void occupancy_update(float* density_grid, int64_t n, const int64_t* cells, const float* values, int64_t n_samples,
                      float decay) {
  parallel_for(n, [&](int64_t i) { density_grid[i] = decayed_density(density_grid[i], decay); }, kBlock);
  // A maximum does not depend on the order.
  auto* bits = reinterpret_cast<std::atomic<int32_t>*>(density_grid);
  static_assert(sizeof(std::atomic<int32_t>) == sizeof(float), "atomics must overlay the grid");
  parallel_for(n_samples, [&](int64_t i) {
    if (cells[i] < 0) return;
    const int32_t wanted = wanted_density(values[i]);
    std::atomic<int32_t>& cell = bits[cells[i]];
    int32_t found = cell.load(std::memory_order_relaxed);
    // a negative float has a negative bit pattern, and stays
    while (found >= 0 && found < wanted && !cell.compare_exchange_weak(found, wanted, std::memory_order_relaxed)) {
    }
  });
}

}  // namespace nf::cpu
