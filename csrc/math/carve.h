// SPDX-License-Identifier: Apache-2.0
// What one view says about a cube of cells: whether its silhouette proves the cube empty, and which blocks of pixels
// may show it.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#include "math/footprint.h"
#include "math/occupancy.h"
#include "math/pixel.h"

namespace nf {

constexpr int kCarveRootLevel = kCoarseShift / 3;  // cells are judged from blocks of 8^3 = 2^(3 level) down
// Pixels per side at most. Larger ones are reduced by "any of 2^k x 2^k", with the least k that leaves 512 whole
// squares per side or fewer, and a part of one: 1025 pixels become 513.
constexpr int64_t kLargestSilhouette = 513;

// Number of opaque pixels in any rectangle of a silhouette, from the sums over all rectangles from the corner.
struct SilhouetteSums {
  int64_t width, height;  // after reduction by 2^shift
  int32_t shift;
  const int32_t* sums;  // [height + 1, width + 1]

  NF_HD SilhouetteSums(int64_t full_width, int64_t full_height, const int32_t* table) : shift(0), sums(table) {
    while (max(full_width, full_height) >> shift >= kLargestSilhouette) ++shift;
    const int64_t step = int64_t(1) << shift;
    width = (full_width + step - 1) >> shift;
    height = (full_height + step - 1) >> shift;
  }

  // Whether any pixel of the picture falls into pixel (x, y) after reduction and is opaque.
  NF_HD bool any_opaque(const uint8_t* opaque, int64_t full_width, int64_t full_height, int64_t x, int64_t y) const {
    uint32_t any = 0;
    for (int64_t row = y << shift; row < min(full_height, (y + 1) << shift); ++row)
      for (int64_t column = x << shift; column < min(full_width, (x + 1) << shift); ++column)
        any |= opaque[row * full_width + column];
    return any != 0;
  }

  // Opaque pixels of the footprint widened by `margin`, and how many pixels it has.
  NF_HD int32_t count(const Footprint& print, float margin, int32_t* n_pixels) const {
    const float scale = 1.0f / static_cast<float>(1 << shift);
    const auto place = [scale](float v, int64_t end) {
      return clamp(static_cast<int64_t>(::floorf(v * scale)), int64_t(0), end - 1);
    };
    const int64_t x0 = place(print.low[0] - margin, width), x1 = place(print.high[0] + margin, width) + 1;
    const int64_t y0 = place(print.low[1] - margin, height), y1 = place(print.high[1] + margin, height) + 1;
    const int32_t* top = sums + y0 * (width + 1);
    const int32_t* bottom = sums + y1 * (width + 1);
    *n_pixels = static_cast<int32_t>((x1 - x0) * (y1 - y0));
    return bottom[x1] - bottom[x0] - top[x1] + top[x0];
  }
};

enum class Judgement {
  kNothing,    // nothing now and nothing about any part of the cube
  kEmpty,      // the cube is empty
  kUndecided,  // ask about its parts
};

NF_HD Judgement judge_cube(const SeenViews& views, int64_t view, const SilhouetteSums& silhouette, float margin,
                           const float* center, float half) {
  Footprint print;
  const Sight sight = sight_of_cube(views, view, center, half, &print);
  if (sight == Sight::kOutside) return Judgement::kNothing;
  int32_t n_pixels = 0;
  const int32_t n_opaque = silhouette.count(print, margin, &n_pixels);
  if (sight == Sight::kInside && n_opaque == 0) return Judgement::kEmpty;
  return n_opaque < n_pixels || sight == Sight::kPartial ? Judgement::kUndecided : Judgement::kNothing;
}

// Centre and half width of the cube of 2^(3 level) cells that begins with `cell`.
NF_HD float cube_of_cells(int32_t log2_resolution, int64_t cell, int level, float* center) {
  const float half = 0.5f * cell_bounds(log2_resolution, cell, center) * static_cast<float>(1 << level);
  for (int axis = 0; axis < 3; ++axis) center[axis] += half;
  return half;
}

// Marks the blocks of 8 x 8 pixels in which a view may show the 8 cells from `cell` on, and the blocks around them.
NF_HD void mark_blocks(const SeenViews& views, int64_t view, int32_t log2_resolution, int64_t cell,
                       const int64_t* block_starts, uint8_t* marks) {
  float center[3];
  const float half = cube_of_cells(log2_resolution, cell, 1, center);
  Footprint print;
  if (sight_of_cube(views, view, center, half, &print) == Sight::kOutside) return;
  const int64_t per_row = blocks_along(views.sizes[2 * view]), rows = blocks_along(views.sizes[2 * view + 1]);
  const auto block_of = [](float v, int64_t end, int64_t more) {
    return clamp(static_cast<int64_t>(v) / kPixelBlock + more, int64_t(0), end - 1);
  };
  const int64_t x0 = block_of(print.low[0], per_row, -1), x1 = block_of(print.high[0], per_row, 1);
  const int64_t y0 = block_of(print.low[1], rows, -1), y1 = block_of(print.high[1], rows, 1);
  for (int64_t y = y0; y <= y1; ++y)
    for (int64_t x = x0; x <= x1; ++x) marks[block_starts[view] + y * per_row + x] = 1;
}

}  // namespace nf
