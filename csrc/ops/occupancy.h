// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/occupancy.h"

namespace nf::NF_BACKEND {

// bit = density > *threshold per cell; then bits of each finer cascade are carried into the central half of the next.
void occupancy_bits(const float* density_grid, const float* threshold, int32_t n_cascades, int32_t log2_resolution,
                    uint8_t* bitfield, uint8_t* coarse);
// The coarse bytes of a finished bitfield.
void occupancy_coarse(const uint8_t* bitfield, int32_t n_cascades, int32_t log2_resolution, uint8_t* coarse);

// Mean of max(density, 0) over n cells; summed in fixed blocks, the same for any number of threads.
void occupancy_mean(const float* density_grid, int64_t n, double* mean, void* scratch);

// Writes the indices of the cells with density > threshold in ascending order, and how many there are. cells [n].
void occupancy_select(const float* density_grid, float threshold, int64_t n, int32_t* cells, int64_t* n_selected,
                      void* scratch);

// What both need for n cells.
int64_t occupancy_scratch_bytes(int64_t n);

// Draws n_samples of the *n_cells listed cells, stratified (sample i from the i-th of n_samples equal shares of the
// list, so the cells come in Morton order and each cell is drawn n_samples / n_cells times give or take one), and a
// uniform position in each. `dimension` separates several draws of one stream. Of no cells, -1 and the middle of unit
// space are drawn.
void occupancy_draw(const int32_t* cells, const int64_t* n_cells, int64_t n_samples, int32_t log2_resolution,
                    uint64_t stream, uint32_t dimension, int64_t* drawn, float* positions);

// density = density < 0 ? density : max(decay * density, values of this cell's samples). Values that are NaN are
// ignored, infinite ones are stored as the largest float. Cells below 0 are ignored; CUDA ignores all outside of the
// grid.
void occupancy_update(float* density_grid, int64_t n, const int64_t* cells, const float* values, int64_t n_samples,
                      float decay);

}  // namespace nf::NF_BACKEND
