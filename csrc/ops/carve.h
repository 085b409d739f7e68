// SPDX-License-Identifier: Apache-2.0
// Visual hull: which cells of an occupancy grid can hold something, and which pixels can show it, by silhouettes and
// views.
#pragma once

#include <cstdint>

#include "math/footprint.h"
#include "math/occupancy.h"

namespace nf::NF_BACKEND {

// Pictures of all views one after the other: non-zero where something is seen.
struct Silhouettes {
  const uint8_t* opaque;  // [n_pixels]
  const int64_t* starts;  // [n_views] first pixel of each view
};

// Sets the density of a cell to `closed` where a view that sees all of the cell shows nothing in its footprint, which
// is widened by `margin` pixels. Views that see only part of a cell say nothing.
void carve(const SeenViews& views, int64_t n_views, const Silhouettes& silhouettes, float margin, float closed,
           int32_t n_cascades, int32_t log2_resolution, float* density_grid, void* scratch);
int64_t carve_scratch_bytes(int64_t n_views);

// Sets the density of a cell to `closed` where no view sees any of it.
void close_unseen(const SeenViews& views, int64_t n_views, float closed, int32_t n_cascades, int32_t log2_resolution,
                  float* density_grid);

// Marks the blocks of 8 x 8 pixels that may show an occupied cell, widened by one block: `marks` [n_blocks] counts
// blocks through all views, row by row, block_starts [n_views] is the first of each.
void mark_pixel_blocks(const SeenViews& views, int64_t n_views, const OccupancyView& grid, const int64_t* block_starts,
                       int64_t n_blocks, uint8_t* marks);

}  // namespace nf::NF_BACKEND
