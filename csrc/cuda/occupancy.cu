// SPDX-License-Identifier: Apache-2.0
#include "cuda/scan.h"
#include "ops/occupancy.h"

namespace nf::cuda {
namespace {

constexpr int kCells = 2048;  // per block of threads in sums over cells

// ---- bits ----

// One block per cascade: distances to the nearest occupied block of 8^3 cells. The Chebyshev distance separates: after
// the pass along an axis, d = min over the line of max(|steps along it|, d before).
__global__ void __launch_bounds__(kScanThreads)
    coarse_kernel(const uint8_t* bitfield, int32_t log2_resolution, uint8_t* coarse) {
  const int n = (1 << log2_resolution) / kCoarseWidth, n_blocks = n * n * n;
  uint8_t *from = dynamic_shared<uint8_t>(), *to = from + n_blocks;
  const uint8_t* bits = bitfield + (int64_t(blockIdx.x) << (3 * log2_resolution - 3));
  for (int32_t code = threadIdx.x; code < n_blocks; code += kScanThreads) {
    int32_t place;
    const bool any = block_is_occupied(bits, code, n, &place);
    from[place] = static_cast<uint8_t>(any ? 0 : n);
  }
  for (int stride = 1; stride < n_blocks; stride *= n) {
    __syncthreads();
    for (int block = threadIdx.x; block < n_blocks; block += kScanThreads) {
      const int along = block / stride % n;
      int nearest = n;
      for (int other = 0; other < n; ++other) {
        const int steps = along < other ? other - along : along - other;
        nearest = min(nearest, max(steps, static_cast<int>(from[block + (other - along) * stride])));
      }
      to[block] = static_cast<uint8_t>(nearest);
    }
    uint8_t* const last = from;
    from = to;
    to = last;
  }
  __syncthreads();
  for (int block = threadIdx.x; block < n_blocks; block += kScanThreads)
    coarse[int64_t(blockIdx.x) * n_blocks + block] = from[block];
}

// ---- sums ----

__device__ double block_sum(double value) {
  __shared__ double sums[kBlock];
  sums[threadIdx.x] = value;
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  __syncthreads();
  return sums[0];
}

__global__ void __launch_bounds__(kBlock) sum_kernel(const float* density_grid, int64_t n, double* sums) {
  double sum = 0;
  const int64_t first = int64_t(blockIdx.x) * kCells;
  for (int64_t i = first + threadIdx.x; i < min(n, first + kCells); i += kBlock) sum += max(density_grid[i], 0.0f);
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
__global__ void __launch_bounds__(kBlock) mean_kernel(const double* sums, int64_t n_sums, int64_t n, double* mean) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n_sums; i += kBlock) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *mean = n > 0 ? sum / static_cast<double>(n) : 0;
}

// ---- selection: a thread owns consecutive cells, so that the list ascends ----

constexpr int kCellsPerThread = kCells / kBlock;

__device__ int count_cells(const float* density_grid, float threshold, int64_t first, int64_t n) {
  int count = 0;
  for (int64_t i = first; i < min(n, first + kCellsPerThread); ++i) count += density_grid[i] > threshold;
  return count;
}
__global__ void __launch_bounds__(kBlock)
    count_kernel(const float* density_grid, float threshold, int64_t n, int64_t* counts) {
  const int64_t first = int64_t(blockIdx.x) * kCells + threadIdx.x * kCellsPerThread;
  int64_t total;
  block_exclusive_sum<kBlock>(count_cells(density_grid, threshold, first, n), &total);
  if (threadIdx.x == 0) counts[blockIdx.x] = total;
}
__global__ void __launch_bounds__(kBlock)
    select_kernel(const float* density_grid, float threshold, int64_t n, const int64_t* places, int32_t* cells) {
  const int64_t first = int64_t(blockIdx.x) * kCells + threadIdx.x * kCellsPerThread;
  int64_t total;
  int64_t place =
      places[blockIdx.x] + block_exclusive_sum<kBlock>(count_cells(density_grid, threshold, first, n), &total);
  for (int64_t i = first; i < min(n, first + kCellsPerThread); ++i)
    if (density_grid[i] > threshold) cells[place++] = static_cast<int32_t>(i);
}

// ---- update ----

struct Decay {
  float* density_grid;
  float decay;
  NF_HD void operator()(int64_t i) const { density_grid[i] = decayed_density(density_grid[i], decay); }
};

struct Raise {
  int32_t* bits;  // of the density grid [n]
  int64_t n;
  const int64_t* cells;
  const float* values;
  __device__ void operator()(int64_t i) const {
    const int64_t cell = cells[i];
    // a negative float has a negative bit pattern, and stays: no sample changes a sign
    if (cell >= 0 && cell < n && bits[cell] >= 0) atomicMax(bits + cell, wanted_density(values[i]));
  }
};

}  // namespace

void occupancy_coarse(const uint8_t* bitfield, int32_t n_cascades, int32_t log2_resolution, uint8_t* coarse) {
  const int n_bytes = 2 << (3 * log2_resolution - kCoarseShift);  // 64 KiB at most
  launch("occupancy_coarse", coarse_kernel, Grid{n_cascades, kScanThreads, n_bytes}, bitfield, log2_resolution, coarse);
}

void occupancy_bits(const float* density_grid, const float* threshold, int32_t n_cascades, int32_t log2_resolution,
                    uint8_t* bitfield, uint8_t* coarse) {
  const int64_t bytes = int64_t(1) << (3 * log2_resolution - 3);
  for_each("occupancy_bits", n_cascades * bytes, OccupancyBits{density_grid, threshold, bitfield});
  for (int32_t k = 0; k + 1 < n_cascades; ++k)
    for_each("occupancy_bits: carry", bytes / 8,
             OccupancyCarry{bitfield + k * bytes, bitfield + (k + 1) * bytes, log2_resolution});
  occupancy_coarse(bitfield, n_cascades, log2_resolution, coarse);
}

int64_t occupancy_scratch_bytes(int64_t n) { return 8 * blocks_for(n, kCells); }

void occupancy_mean(const float* density_grid, int64_t n, double* mean, void* scratch) {
  double* sums = static_cast<double*>(scratch);
  const int64_t n_sums = blocks_for(n, kCells);
  launch("occupancy_mean: sums", sum_kernel, Grid{n_sums}, density_grid, n, sums);
  launch("occupancy_mean", mean_kernel, Grid{1}, sums, n_sums, n, mean);
}

void occupancy_select(const float* density_grid, float threshold, int64_t n, int32_t* cells, int64_t* n_selected,
                      void* scratch) {
  int64_t* places = static_cast<int64_t*>(scratch);
  const int64_t n_blocks = blocks_for(n, kCells);
  launch("occupancy_select: count", count_kernel, Grid{n_blocks}, density_grid, threshold, n, places);
  scan_sums(places, n_blocks, n_selected);
  launch("occupancy_select", select_kernel, Grid{n_blocks}, density_grid, threshold, n, places, cells);
}

void occupancy_draw(const int32_t* cells, const int64_t* n_cells, int64_t n_samples, int32_t log2_resolution,
                    uint64_t stream, uint32_t dimension, int64_t* drawn, float* positions) {
  for_each("occupancy_draw", n_samples,
           OccupancyDraw{cells, n_cells, n_samples, log2_resolution, stream, dimension, drawn, positions});
}

void occupancy_update(float* density_grid, int64_t n, const int64_t* cells, const float* values, int64_t n_samples,
                      float decay) {
  for_each("occupancy_update: decay", n, Decay{density_grid, decay});
  for_each("occupancy_update", n_samples, Raise{reinterpret_cast<int32_t*>(density_grid), n, cells, values});
}

}  // namespace nf::cuda
