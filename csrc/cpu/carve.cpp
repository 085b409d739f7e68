// SPDX-License-Identifier: Apache-2.0
#include "ops/carve.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "math/carve.h"

namespace nf::cpu {
namespace {

std::vector<int32_t> sums_of(const uint8_t* opaque, int64_t full_width, int64_t full_height) {
  const SilhouetteSums table(full_width, full_height, nullptr);
  std::vector<int32_t> sums(static_cast<size_t>((table.width + 1) * (table.height + 1)));
  for (int64_t y = 0; y < table.height; ++y) {
    const int32_t* above = sums.data() + y * (table.width + 1);
    int32_t* here = sums.data() + (y + 1) * (table.width + 1);
    int32_t count = 0;
    for (int64_t x = 0; x < table.width; ++x)
      here[x + 1] = above[x + 1] + (count += table.any_opaque(opaque, full_width, full_height, x, y));
  }
  return sums;
}

// What is known of a block of cells after all views were asked.
enum class Verdict { kClose, kKeep, kSplit };

// Asks `judge(views, n, center, half, undecided, &n_undecided)` about a block, closes or keeps it, or asks about its
// eight children the views that were undecided. Single cells that remain undecided are kept.
template <typename Judge>
void walk(const Judge& judge, int32_t log2_resolution, int64_t cell, int level, const int32_t* views, int64_t n_views,
          int32_t* scratch, float closed, float* density_grid) {
  float center[3];
  const float half = cube_of_cells(log2_resolution, cell, level, center);
  int64_t n_undecided = 0;
  const Verdict verdict = judge(views, n_views, center, half, scratch, &n_undecided);
  const int64_t n_cells = int64_t(1) << 3 * level;
  if (verdict == Verdict::kClose) std::fill_n(density_grid + cell, n_cells, closed);
  if (verdict != Verdict::kSplit || level == 0) return;
  for (int64_t child = 0; child < 8; ++child)
    walk(judge, log2_resolution, cell + child * (n_cells / 8), level - 1, scratch, n_undecided, scratch + n_undecided,
         closed, density_grid);
}

template <typename Judge>
void walk_all(const Judge& judge, int64_t n_views, float closed, int32_t n_cascades, int32_t log2_resolution,
              float* density_grid) {
  std::vector<int32_t> all(static_cast<size_t>(n_views));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  const int64_t n_blocks = int64_t(n_cascades) << (3 * log2_resolution - kCoarseShift);
  parallel_ranges(n_blocks, 16, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> scratch(static_cast<size_t>(n_views) * (kCarveRootLevel + 1));
    for (int64_t block = begin; block < end; ++block)
      walk(judge, log2_resolution, block << kCoarseShift, kCarveRootLevel, all.data(), n_views, scratch.data(), closed,
           density_grid);
  });
}

}  // namespace

int64_t carve_scratch_bytes(int64_t) { return 0; }

void carve(const SeenViews& views, int64_t n_views, const Silhouettes& silhouettes, float margin, float closed,
           int32_t n_cascades, int32_t log2_resolution, float* density_grid, void*) {
  std::vector<std::vector<int32_t>> sums(static_cast<size_t>(n_views));
  parallel_tasks(n_views, [&](int64_t view, int) {
    sums[view] =
        sums_of(silhouettes.opaque + silhouettes.starts[view], views.sizes[2 * view], views.sizes[2 * view + 1]);
  });
  std::vector<SilhouetteSums> tables;
  for (int64_t view = 0; view < n_views; ++view)
    tables.emplace_back(views.sizes[2 * view], views.sizes[2 * view + 1], sums[view].data());
  const auto judge = [&](const int32_t* asked, int64_t n, const float* center, float half, int32_t* undecided,
                         int64_t* n_undecided) {
    for (int64_t i = 0; i < n; ++i) {
      const Judgement judgement = judge_cube(views, asked[i], tables[asked[i]], margin, center, half);
      if (judgement == Judgement::kEmpty) return Verdict::kClose;
      if (judgement == Judgement::kUndecided) undecided[(*n_undecided)++] = asked[i];
    }
    return *n_undecided ? Verdict::kSplit : Verdict::kKeep;
  };
  walk_all(judge, n_views, closed, n_cascades, log2_resolution, density_grid);
}

void close_unseen(const SeenViews& views, int64_t n_views, float closed, int32_t n_cascades, int32_t log2_resolution,
                  float* density_grid) {
  const auto judge = [&](const int32_t* asked, int64_t n, const float* center, float half, int32_t* undecided,
                         int64_t* n_undecided) {
    for (int64_t i = 0; i < n; ++i) {
      Footprint print;
      const Sight sight = sight_of_cube(views, asked[i], center, half, &print);
      if (sight == Sight::kInside) return Verdict::kKeep;
      if (sight == Sight::kPartial) undecided[(*n_undecided)++] = asked[i];
    }
    return *n_undecided ? Verdict::kSplit : Verdict::kClose;
  };
  walk_all(judge, n_views, closed, n_cascades, log2_resolution, density_grid);
}

void mark_pixel_blocks(const SeenViews& views, int64_t n_views, const OccupancyView& grid, const int64_t* block_starts,
                       int64_t n_blocks, uint8_t* marks) {
  // The 8 cells of a byte are seen as one cube.
  const int64_t n_bytes = int64_t(grid.n_cascades) << (3 * grid.log2_resolution - 3);
  std::vector<int64_t> occupied;
  for (int64_t i = 0; i < n_bytes; ++i)
    if (grid.bitfield[i]) occupied.push_back(8 * i);
  std::fill_n(marks, n_blocks, uint8_t(0));
  parallel_tasks(n_views, [&](int64_t view, int) {
    for (const int64_t cell : occupied) mark_blocks(views, view, grid.log2_resolution, cell, block_starts, marks);
  });
}

}  // namespace nf::cpu
