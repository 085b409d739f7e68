// SPDX-License-Identifier: Apache-2.0
// Occupancy grid of cascaded cubes (Mueller et al. 2022, section 5.4 and appendix E). Cascade k covers
// [0.5 - 2^(k-1), 0.5 + 2^(k-1)]^3 with resolution^3 cells, a power of two between 8 and 256. One bit per cell in
// Morton order (x in bit 0), 8 consecutive cells per byte; cascade k starts at bit k * resolution^3. A set bit of a
// cascade is also set in every coarser one that covers it, so an empty coarse cell proves its finer ones empty.
// `coarse` holds one byte per block of 8^3 cells, in raster order (x fastest): 0 when any of them is set, else the
// Chebyshev distance d in blocks to the nearest such block of the cascade, so that the cube of 2 d - 1 blocks around is
// empty; the number of blocks per axis when there is none.
// The functions are templates on float (with int32_t) or vf (with vi): scalar and SIMD march through the same formulas.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/rng.h"
#include "core/scalar.h"
#include "math/exponential.h"

namespace nf {

constexpr int kCoarseShift = 9;           // log2 of the cells in a coarse block
constexpr int kCoarseWidth = 8;           // cells per axis of a coarse block
constexpr uint32_t kOccupancyStream = 2;  // of random_stream

namespace detail {
NF_HD int32_t raw_bits(float x) { return static_cast<int32_t>(float_bits(x)); }
NF_HD int32_t truncate(float x) { return static_cast<int32_t>(x); }
NF_HD float magnitude(float x) { return bits_float(float_bits(x) & 0x7fffffffu); }
NF_HD int32_t broadcast_int(int32_t x, float) { return x; }
NF_HD float float_of_bits(int32_t x) { return bits_float(static_cast<uint32_t>(x)); }
NF_HD float number_of(int32_t x) { return static_cast<float>(x); }
NF_HD int32_t select(bool mask, int32_t a, int32_t b) { return mask ? a : b; }
#ifndef __CUDACC__
NF_HD vi raw_bits(vf x) { return bits(x); }
NF_HD vi truncate(vf x) { return __builtin_convertvector(x, vi); }
NF_HD vf magnitude(vf x) { return from_bits(bits(x) & 0x7fffffff); }
NF_HD vi broadcast_int(int32_t x, vf) { return splat(x); }
NF_HD vf float_of_bits(vi x) { return from_bits(x); }
NF_HD vf number_of(vi x) { return to_float(x); }
NF_HD vi select(vi mask, vi a, vi b) { return nf::select(mask, a, b); }
#endif
}  // namespace detail

// Inserts two zeros after each of the low 8 bits.
template <typename I>
NF_HD I morton_spread(I x) {
  x = (x | x << 8) & 0x00f00f;
  x = (x | x << 4) & 0x0c30c3;
  return (x | x << 2) & 0x249249;
}

// Keeps every third bit and closes the gaps: the inverse of morton_spread.
NF_HD int32_t morton_compact(int32_t x) {
  x &= 0x249249;
  x = (x | x >> 2) & 0x0c30c3;
  x = (x | x >> 4) & 0x00f00f;
  return (x | x >> 8) & 0x0000ff;
}

// Morton code of a cell with coordinates in [0, 256).
template <typename I>
NF_HD I morton_encode(I x, I y, I z) {
  return morton_spread(x) | morton_spread(y) << 1 | morton_spread(z) << 2;
}
NF_HD void morton_decode(int32_t code, int32_t* cell) {
  for (int axis = 0; axis < 3; ++axis) cell[axis] = morton_compact(code >> axis);
}

struct OccupancyView {
  const uint8_t* bitfield;  // [n_cascades * resolution^3 / 8]
  const uint8_t* coarse;    // [n_cascades * (resolution / 8)^3]
  int32_t n_cascades;       // 1 ... 8
  int32_t log2_resolution;  // 3 ... 8
  NF_HD int32_t resolution() const { return int32_t(1) << log2_resolution; }
  NF_HD int32_t cells_per_cascade() const { return int32_t(1) << 3 * log2_resolution; }
};

// The exponent e of frexp: |x| in [2^(e-1), 2^e).
template <typename V>
NF_HD auto frexp_exponent(V x) {
  return (detail::raw_bits(x) >> 23) - 126;
}

// Cascade in which a sample at x with step dt is tested: the finest that covers x, and no finer than half a cell per
// step, so that a tested cell always spans at least two steps.
template <typename V>
NF_HD auto cascade_of(const OccupancyView& grid, const V* x, V dt) {
  const V half = detail::broadcast(0.5f, dt);
  const V reach =
      max(max(detail::magnitude(x[0] - half), detail::magnitude(x[1] - half)), detail::magnitude(x[2] - half));
  const auto by_position = frexp_exponent(reach) + 1;
  const auto by_step = frexp_exponent(dt * detail::broadcast(static_cast<float>(2 * grid.resolution()), dt));
  const auto zero = detail::broadcast_int(0, dt), last = detail::broadcast_int(grid.n_cascades - 1, dt);
  return min(max(max(by_position, by_step), zero), last);
}

// Coordinate along one axis in cells of a cascade, [0, resolution) inside; the integer part is the cell.
template <typename V, typename I>
NF_HD V cell_coordinate(const OccupancyView& grid, V x, I cascade) {
  const V cells_per_unit = detail::float_of_bits((grid.log2_resolution + 127 - cascade) << 23);
  const V half = detail::broadcast(0.5f, x);
  return madd(x - half, cells_per_unit, detail::broadcast(0.5f * static_cast<float>(grid.resolution()), x));
}

// The cell along one axis. Positions outside of the cascade count to its border cells.
template <typename V, typename I>
NF_HD I cell_along(const OccupancyView& grid, V x, I cascade) {
  const V zero = detail::broadcast(0.0f, x);
  const V last = detail::broadcast(static_cast<float>(grid.resolution()) - 0.5f, x);
  return detail::truncate(min(max(cell_coordinate(grid, x, cascade), zero), last));
}

// Index of the cell that holds x, over all cascades.
template <typename V, typename I>
NF_HD I cell_index(const OccupancyView& grid, const V* x, I cascade) {
  const I code =
      morton_encode(cell_along(grid, x[0], cascade), cell_along(grid, x[1], cascade), cell_along(grid, x[2], cascade));
  return code | cascade << 3 * grid.log2_resolution;
}

// Where `coarse` holds the distance of the block around a cell.
template <typename I>
NF_HD I block_index(const OccupancyView& grid, const I* cell, I cascade) {
  constexpr int32_t shift = kCoarseShift / 3;
  const int32_t bits = grid.log2_resolution - shift;  // of a block's coordinate
  const I row = (cascade << bits | cell[2] >> shift) << bits | cell[1] >> shift;
  return row << bits | cell[0] >> shift;
}

// Corner of a cell with the lowest coordinates, and its width, in unit space; `cell` counts over all cascades.
NF_HD float cell_bounds(int32_t log2_resolution, int64_t cell, float* corner) {
  const int32_t cascade = static_cast<int32_t>(cell >> 3 * log2_resolution);
  const float side = static_cast<float>(int32_t(1) << cascade);
  const float width = side / static_cast<float>(int32_t(1) << log2_resolution);
  int32_t xyz[3];
  morton_decode(static_cast<int32_t>(cell & ((int64_t(1) << 3 * log2_resolution) - 1)), xyz);
  for (int axis = 0; axis < 3; ++axis) corner[axis] = madd(static_cast<float>(xyz[axis]), width, 0.5f - 0.5f * side);
  return width;
}

// Sample i of n drawn from n_cells listed cells: one from each of n equal shares of the list. With n a multiple of
// n_cells every cell comes equally often.
struct OccupancyDraw {
  const int32_t* cells;    // [*n_cells]
  const int64_t* n_cells;  // none: -1 and the middle of unit space are drawn
  int64_t n;
  int32_t log2_resolution;
  uint64_t stream;
  uint32_t dimension;  // 4 dimensions from here on are used
  int64_t* drawn;      // [n]
  float* positions;    // [n, 3]
  NF_HD void operator()(int64_t i) const {
    const uint64_t index = static_cast<uint64_t>(i);
    const int64_t count = *n_cells;
    if (count == 0) {
      drawn[i] = -1;
      for (int axis = 0; axis < 3; ++axis) positions[3 * i + axis] = 0.5f;
      return;
    }
    const double share = static_cast<double>(count) / static_cast<double>(n);
    const double place = (static_cast<double>(i) + random_uniform(stream, index, dimension)) * share;
    const int64_t cell = cells[min(static_cast<int64_t>(place), count - 1)];
    float corner[3];
    const float width = cell_bounds(log2_resolution, cell, corner);
    drawn[i] = cell;
    for (uint32_t axis = 0; axis < 3; ++axis)
      positions[3 * i + axis] = madd(random_uniform(stream, index, dimension + 1 + axis), width, corner[axis]);
  }
};

// Byte i of a bitfield: the bits of 8 consecutive cells with density > *threshold.
struct OccupancyBits {
  const float* density_grid;  // [8 n_bytes]
  const float* threshold;
  uint8_t* bitfield;  // [n_bytes]
  NF_HD void operator()(int64_t i) const {
    const float level = *threshold;
    uint32_t byte = 0;
    for (int b = 0; b < 8; ++b) byte |= uint32_t(density_grid[8 * i + b] > level) << b;
    bitfield[i] = static_cast<uint8_t>(byte);
  }
};

// 8 consecutive Morton codes of cascade k are one byte of its bitfield and one cell of cascade k + 1, whose coordinates
// are the pair's in the central half: (resolution / 4) + cell / 2. Group i of 8 bytes is one whole byte above.
struct OccupancyCarry {
  const uint8_t* fine;  // [8 n_groups] bytes of a cascade
  uint8_t* above;       // those of the next
  int32_t log2_resolution;
  NF_HD void operator()(int64_t group) const {
    const int32_t quarter = int32_t(1) << (log2_resolution - 2);
    int32_t cell[3];
    morton_decode(static_cast<int32_t>(8 * group), cell);
    const int32_t target = morton_encode(cell[0] + quarter, cell[1] + quarter, cell[2] + quarter);
    uint32_t any = 0;
    for (int b = 0; b < 8; ++b) any |= uint32_t(fine[8 * group + b] != 0) << b;
    above[target >> 3] = static_cast<uint8_t>(above[target >> 3] | any);
  }
};

// Block `code`, in Morton order, of a cascade: whether any bit in it is set, and its place in raster order.
NF_HD bool block_is_occupied(const uint8_t* bitfield, int32_t code, int32_t blocks_per_axis, int32_t* place) {
  constexpr int64_t kBytes = (1 << kCoarseShift) / 8;
  int32_t block[3];
  morton_decode(code, block);
  *place = block[0] + blocks_per_axis * (block[1] + blocks_per_axis * block[2]);
  uint32_t any = 0;
  for (int64_t b = 0; b < kBytes; ++b) any |= bitfield[code * kBytes + b];
  return any != 0;
}

// The update of the grid: densities decay, but for negative ones, and rise to the samples' values.
NF_HD float decayed_density(float density, float decay) { return density * (density < 0 ? 1.0f : decay); }
// What a sample asks for: its value as bits, which order non-negative floats; 0 for NaN and for values below 0.
NF_HD int32_t wanted_density(float value) {
  constexpr float kLargest = 3.4028234663852886e38f;
  return value > 0 ? static_cast<int32_t>(float_bits(min(value, kLargest))) : 0;
}

NF_HD bool is_occupied(const OccupancyView& grid, int32_t cell) { return grid.bitfield[cell >> 3] >> (cell & 7) & 1; }

}  // namespace nf
