// SPDX-License-Identifier: Apache-2.0
// One thread per cell. The CPU asks all views about a block of 8^3 cells, then the undecided ones about its parts. What
// a view answers does not depend on the other views, so here each cell follows one view after the other from its block
// down to itself, with the same outcome.
#include "cuda/scan.h"
#include "math/carve.h"
#include "ops/carve.h"

namespace nf::cuda {
namespace {

constexpr int kTableSide = kLargestSilhouette + 1;
constexpr int64_t kTableSize = int64_t(kTableSide) * kTableSide;
constexpr int kRowThreads = (kLargestSilhouette + 31) / 32 * 32;  // one per pixel of a row, in whole warps

struct Tables {
  const int64_t* sizes;  // [n_views, 2]
  int32_t* sums;         // [n_views, kTableSize], each table at the front of its place
  __device__ int32_t* of(int64_t view) const { return sums + view * kTableSize; }
  __device__ SilhouetteSums view(int64_t view) const {
    return SilhouetteSums(sizes[2 * view], sizes[2 * view + 1], of(view));
  }
};

// One block per row of a table: running sums along it.
__global__ void __launch_bounds__(kRowThreads) sum_rows(Tables tables, Silhouettes silhouettes) {
  const int64_t view = blockIdx.x / kLargestSilhouette, y = blockIdx.x % kLargestSilhouette, x = threadIdx.x;
  const SilhouetteSums table = tables.view(view);
  if (y >= table.height) return;
  const uint8_t* opaque = silhouettes.opaque + silhouettes.starts[view];
  const bool any =
      x < table.width && table.any_opaque(opaque, tables.sizes[2 * view], tables.sizes[2 * view + 1], x, y);
  int64_t total;
  const int64_t before = block_exclusive_sum<kRowThreads>(any, &total);
  int32_t* row = tables.of(view) + (y + 1) * (table.width + 1);
  if (x < table.width) row[x + 1] = static_cast<int32_t>(before + any);
  if (x == 0) row[0] = 0;
}

// One thread per column: running sums down it.
struct SumColumns {
  Tables tables;
  __device__ void operator()(int64_t i) const {
    const int64_t view = i / kTableSide, x = i % kTableSide;
    const SilhouetteSums table = tables.view(view);
    if (x > table.width) return;
    int32_t* sums = tables.of(view) + x;
    int32_t sum = sums[0] = 0;
    for (int64_t y = 1; y <= table.height; ++y) sum = sums[y * (table.width + 1)] += sum;
  }
};

struct Carve {
  SeenViews views;
  int64_t n_views;
  Tables tables;
  float margin, closed;
  int32_t log2_resolution;
  float* density_grid;

  __device__ bool is_empty(int64_t view, int64_t cell) const {
    const SilhouetteSums silhouette = tables.view(view);
#pragma unroll 1
    for (int level = kCarveRootLevel; level >= 0; --level) {
      float center[3];
      const float half = cube_of_cells(log2_resolution, cell >> 3 * level << 3 * level, level, center);
      const Judgement judgement = judge_cube(views, view, silhouette, margin, center, half);
      if (judgement != Judgement::kUndecided) return judgement == Judgement::kEmpty;
    }
    return false;
  }
  __device__ void operator()(int64_t cell) const {
    for (int64_t view = 0; view < n_views; ++view) {
      if (!is_empty(view, cell)) continue;
      density_grid[cell] = closed;
      return;
    }
  }
};

struct CloseUnseen {
  SeenViews views;
  int64_t n_views;
  float closed;
  int32_t log2_resolution;
  float* density_grid;

  // A single cell of which a part may be seen counts as seen.
  __device__ bool is_seen(int64_t view, int64_t cell) const {
#pragma unroll 1
    for (int level = kCarveRootLevel; level >= 0; --level) {
      float center[3];
      const float half = cube_of_cells(log2_resolution, cell >> 3 * level << 3 * level, level, center);
      Footprint print;
      const Sight sight = sight_of_cube(views, view, center, half, &print);
      if (sight != Sight::kPartial) return sight == Sight::kInside;
    }
    return true;
  }
  __device__ void operator()(int64_t cell) const {
    for (int64_t view = 0; view < n_views; ++view)
      if (is_seen(view, cell)) return;
    density_grid[cell] = closed;
  }
};

struct MarkBlocks {
  SeenViews views;
  OccupancyView grid;
  int64_t n_bytes;
  const int64_t* block_starts;
  uint8_t* marks;
  __device__ void operator()(int64_t i) const {
    const int64_t view = i / n_bytes, byte = i % n_bytes;
    if (grid.bitfield[byte]) mark_blocks(views, view, grid.log2_resolution, 8 * byte, block_starts, marks);
  }
};

int64_t n_cells(int32_t n_cascades, int32_t log2_resolution) { return int64_t(n_cascades) << 3 * log2_resolution; }

}  // namespace

int64_t carve_scratch_bytes(int64_t n_views) { return n_views * kTableSize * 4; }

void carve(const SeenViews& views, int64_t n_views, const Silhouettes& silhouettes, float margin, float closed,
           int32_t n_cascades, int32_t log2_resolution, float* density_grid, void* scratch) {
  const Tables tables{views.sizes, static_cast<int32_t*>(scratch)};
  launch("carve: rows", sum_rows, Grid{n_views * kLargestSilhouette, kRowThreads}, tables, silhouettes);
  for_each("carve: columns", n_views * kTableSide, SumColumns{tables});
  for_each("carve", n_cells(n_cascades, log2_resolution),
           Carve{views, n_views, tables, margin, closed, log2_resolution, density_grid});
}

void close_unseen(const SeenViews& views, int64_t n_views, float closed, int32_t n_cascades, int32_t log2_resolution,
                  float* density_grid) {
  for_each("close_unseen", n_cells(n_cascades, log2_resolution),
           CloseUnseen{views, n_views, closed, log2_resolution, density_grid});
}

void mark_pixel_blocks(const SeenViews& views, int64_t n_views, const OccupancyView& grid, const int64_t* block_starts,
                       int64_t n_blocks, uint8_t* marks) {
  fill_zero(marks, n_blocks);
  const int64_t n_bytes = n_cells(grid.n_cascades, grid.log2_resolution) / 8;
  for_each("mark_pixel_blocks", n_views * n_bytes, MarkBlocks{views, grid, n_bytes, block_starts, marks});
}

}  // namespace nf::cuda
