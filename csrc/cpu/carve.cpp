// SPDX-License-Identifier: Apache-2.0
#include "ops/carve.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "math/pixel.h"

namespace nf::cpu {
namespace {

constexpr int kRootLevel = kCoarseShift / 3;  // cells are judged from blocks of 8^3 down
constexpr int64_t kLargestTable = 512;  // pixels per side; larger silhouettes are first reduced by "any of 2^k x 2^k"

// Number of opaque pixels in any rectangle of a silhouette: a table of sums over all rectangles from the corner.
struct CountTable {
  int64_t width = 0, height = 0;  // after reduction by 2^shift
  int shift = 0;
  std::vector<int32_t> sums;  // [height + 1, width + 1]

  void build(const uint8_t* opaque, int64_t full_width, int64_t full_height) {
    while (std::max(full_width, full_height) >> shift > kLargestTable) ++shift;
    const int64_t step = int64_t(1) << shift;
    width = (full_width + step - 1) >> shift;
    height = (full_height + step - 1) >> shift;
    sums.assign(static_cast<size_t>((width + 1) * (height + 1)), 0);
    std::vector<uint8_t> any(static_cast<size_t>(width));
    for (int64_t y = 0; y < height; ++y) {
      std::fill(any.begin(), any.end(), uint8_t(0));
      for (int64_t row = y << shift; row < std::min(full_height, (y + 1) << shift); ++row)
        for (int64_t x = 0; x < full_width; ++x) any[x >> shift] |= opaque[row * full_width + x];
      const int32_t* above = sums.data() + y * (width + 1);
      int32_t* here = sums.data() + (y + 1) * (width + 1);
      int32_t count = 0;
      for (int64_t x = 0; x < width; ++x) here[x + 1] = above[x + 1] + (count += any[x] != 0);
    }
  }

  // Opaque pixels of the footprint, and how many pixels it has.
  int32_t count(const Footprint& print, float margin, int32_t* n_pixels) const {
    const float scale = 1.0f / static_cast<float>(1 << shift);
    const auto place = [&](float v, int64_t end) {
      return std::clamp(static_cast<int64_t>(std::floor(v * scale)), int64_t(0), end - 1);
    };
    const int64_t x0 = place(print.low[0] - margin, width), x1 = place(print.high[0] + margin, width) + 1;
    const int64_t y0 = place(print.low[1] - margin, height), y1 = place(print.high[1] + margin, height) + 1;
    const int32_t* top = sums.data() + y0 * (width + 1);
    const int32_t* bottom = sums.data() + y1 * (width + 1);
    *n_pixels = static_cast<int32_t>((x1 - x0) * (y1 - y0));
    return bottom[x1] - bottom[x0] - top[x1] + top[x0];
  }
};

// What is known of a block of cells after all views were asked.
enum class Verdict { kClose, kKeep, kSplit };

// Asks `judge(views, n, center, half, undecided, &n_undecided)` about a block, closes or keeps it, or asks about its
// eight children the views that were undecided. Single cells that remain undecided are kept.
template <typename Judge>
void walk(const Judge& judge, int32_t log2_resolution, int64_t cell, int level, const int32_t* views, int64_t n_views,
          int32_t* scratch, float closed, float* density_grid) {
  float center[3];
  const float half = 0.5f * cell_bounds(log2_resolution, cell, center) * static_cast<float>(1 << level);
  for (float& coordinate : center) coordinate += half;
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
    std::vector<int32_t> scratch(static_cast<size_t>(n_views) * (kRootLevel + 1));
    for (int64_t block = begin; block < end; ++block)
      walk(judge, log2_resolution, block << kCoarseShift, kRootLevel, all.data(), n_views, scratch.data(), closed,
           density_grid);
  });
}

}  // namespace

void carve(const SeenViews& views, int64_t n_views, const Silhouettes& silhouettes, float margin, float closed,
           int32_t n_cascades, int32_t log2_resolution, float* density_grid) {
  std::vector<CountTable> tables(static_cast<size_t>(n_views));
  parallel_tasks(n_views, [&](int64_t view, int) {
    tables[view].build(silhouettes.opaque + silhouettes.starts[view], views.sizes[2 * view], views.sizes[2 * view + 1]);
  });
  const auto judge = [&](const int32_t* asked, int64_t n, const float* center, float half, int32_t* undecided,
                         int64_t* n_undecided) {
    for (int64_t i = 0; i < n; ++i) {
      Footprint print;
      const Sight sight = sight_of_cube(views, asked[i], center, half, &print);
      if (sight == Sight::kOutside) continue;
      int32_t n_pixels = 0;
      const int32_t n_opaque = tables[asked[i]].count(print, margin, &n_pixels);
      if (sight == Sight::kInside && n_opaque == 0) return Verdict::kClose;
      if (n_opaque < n_pixels || sight == Sight::kPartial) undecided[(*n_undecided)++] = asked[i];
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
    const int64_t per_row = (views.sizes[2 * view] + kPixelBlock - 1) / kPixelBlock;
    const int64_t rows = (views.sizes[2 * view + 1] + kPixelBlock - 1) / kPixelBlock;
    const auto block_of = [](float v, int64_t end, int64_t more) {
      return std::clamp(static_cast<int64_t>(v) / kPixelBlock + more, int64_t(0), end - 1);
    };
    for (const int64_t cell : occupied) {
      float center[3];
      const float half = cell_bounds(grid.log2_resolution, cell, center);
      for (float& coordinate : center) coordinate += half;
      Footprint print;
      if (sight_of_cube(views, view, center, half, &print) == Sight::kOutside) continue;
      const int64_t x0 = block_of(print.low[0], per_row, -1), x1 = block_of(print.high[0], per_row, 1);
      for (int64_t y = block_of(print.low[1], rows, -1); y <= block_of(print.high[1], rows, 1); ++y)
        std::fill(marks + block_starts[view] + y * per_row + x0, marks + block_starts[view] + y * per_row + x1 + 1,
                  uint8_t(1));
    }
  });
}

}  // namespace nf::cpu
