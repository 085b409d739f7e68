// SPDX-License-Identifier: Apache-2.0
#include "ops/occupancy.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "core/parallel.h"

namespace nf::cpu {
namespace {

constexpr int64_t kBlock = 1 << 15;  // cells per task; the unit of the fixed summation order

// 8 consecutive Morton codes of cascade k are one byte of its bitfield and one cell of cascade k + 1, whose coordinates
// are the pair's in the central half: (resolution / 4) + cell / 2.
void carry_to_coarser(uint8_t* bitfield, int32_t n_cascades, int32_t log2_resolution) {
  const int64_t bytes = int64_t(1) << (3 * log2_resolution - 3);
  const int32_t quarter = int32_t(1) << (log2_resolution - 2);
  for (int32_t k = 0; k + 1 < n_cascades; ++k) {
    const uint8_t* fine = bitfield + k * bytes;
    uint8_t* above = bitfield + (k + 1) * bytes;
    // 8 fine bytes share one byte above: a task owns whole bytes
    parallel_ranges(bytes / 8, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) {
        int32_t cell[3];
        morton_decode(static_cast<int32_t>(8 * group), cell);
        const int32_t target = morton_encode(cell[0] + quarter, cell[1] + quarter, cell[2] + quarter);
        uint8_t any = 0;
        for (int b = 0; b < 8; ++b) any |= static_cast<uint8_t>((fine[8 * group + b] != 0) << b);
        above[target >> 3] |= any;
      }
    });
  }
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
  constexpr int64_t kBytes = (1 << kCoarseShift) / 8;
  const int n = (1 << log2_resolution) / kCoarseWidth;
  parallel_tasks(n_cascades, [&](int64_t cascade, int) {
    const int64_t first = cascade * n * n * n;
    uint8_t* distances = coarse + first;
    for (int32_t code = 0; code < n * n * n; ++code) {
      const uint8_t* bytes = bitfield + (first + code) * kBytes;
      const bool any = std::any_of(bytes, bytes + kBytes, [](uint8_t byte) { return byte != 0; });
      int32_t block[3];
      morton_decode(code, block);
      distances[block[0] + n * (block[1] + n * block[2])] = static_cast<uint8_t>(any ? 0 : n);
    }
    sweep_distances(distances, n, -1);
    sweep_distances(distances, n, 1);
  });
}

void occupancy_bits(const float* density_grid, float threshold, int32_t n_cascades, int32_t log2_resolution,
                    uint8_t* bitfield, uint8_t* coarse) {
  const int64_t n_bytes = int64_t(n_cascades) << (3 * log2_resolution - 3);
  parallel_for(n_bytes, [&](int64_t i) {
    uint8_t byte = 0;
    for (int b = 0; b < 8; ++b) byte |= static_cast<uint8_t>((density_grid[8 * i + b] > threshold) << b);
    bitfield[i] = byte;
  });
  carry_to_coarser(bitfield, n_cascades, log2_resolution);
  occupancy_coarse(bitfield, n_cascades, log2_resolution, coarse);
}

double occupancy_mean(const float* density_grid, int64_t n) {
  std::vector<double> sums(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_ranges(n, kBlock, [&](int64_t begin, int64_t end) {
    double lanes[8] = {};
    for (int64_t i = begin; i < end; ++i) lanes[i & 7] += std::max(density_grid[i], 0.0f);
    for (double lane : lanes) sums[begin / kBlock] += lane;
  });
  double sum = 0;
  for (double s : sums) sum += s;
  return n > 0 ? sum / static_cast<double>(n) : 0;
}

int64_t occupancy_select(const float* density_grid, float threshold, int64_t n, int32_t* cells) {
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
  return total;
}

void occupancy_draw(const int32_t* cells, int64_t n_cells, int64_t n_samples, int32_t log2_resolution, uint64_t stream,
                    uint32_t dimension, int64_t* drawn, float* positions) {
  parallel_for(n_samples,
               OccupancyDraw{cells, n_cells, n_samples, log2_resolution, stream, dimension, drawn, positions});
}

void occupancy_update(float* density_grid, int64_t n, const int64_t* cells, const float* values, int64_t n_samples,
                      float decay) {
  parallel_for(n, [&](int64_t i) { density_grid[i] *= density_grid[i] < 0 ? 1.0f : decay; }, kBlock);
  // A maximum does not depend on the order, and non-negative floats are ordered like their bits.
  auto* bits = reinterpret_cast<std::atomic<int32_t>*>(density_grid);
  static_assert(sizeof(std::atomic<int32_t>) == sizeof(float), "atomics must overlay the grid");
  parallel_for(n_samples, [&](int64_t i) {
    if (!(values[i] > 0)) return;
    const float value = std::min(values[i], std::numeric_limits<float>::max());
    const int32_t wanted = static_cast<int32_t>(float_bits(value));
    std::atomic<int32_t>& cell = bits[cells[i]];
    int32_t found = cell.load(std::memory_order_relaxed);
    // a negative float has a negative bit pattern, and stays
    while (found >= 0 && found < wanted && !cell.compare_exchange_weak(found, wanted, std::memory_order_relaxed)) {
    }
  });
}

}  // namespace nf::cpu
