// SPDX-License-Identifier: Apache-2.0
// Derivatives of the grid encoding by positions, in SIMD, over the blocks of hash_grid_tile.h. A value and its
// derivatives pass through the interpolation together, axis by axis; equal vertices give derivatives of exactly 0.
#pragma once

#include "cpu/hash_grid_scatter.h"
#include "cpu/hash_grid_tile.h"

namespace nf::cpu {

namespace detail {

// Of the weights of upper vertices: derivatives by the position, for samples x[d][j] and on. Linear and Smoothstep.
struct Slope {
  vf slope, curvature;

  NF_HD Slope(const GridLevel& level, Interpolation interpolation, const float* x) {
    slope = splat(level.scale);
    curvature = vf{};
    if (interpolation == Interpolation::kLinear) return;
    const vf position = fma(slope, load(x), splat(0.5f));
    const vf f = position - floor_of(position);
    curvature = level.scale * level.scale * (6.0f - 12.0f * f);
    slope *= 6.0f * f * (1.0f - f);
  }
};

// dL/dy [F] of kLanes samples in the order of gather_rows, to be multiplied by features and summed per sample.
template <int F>
struct GradientRows {
  vf rows[F];

  // Of samples first, first + 1, ...; the last one again from n on. Row i lies at dL_dy + i * stride * F.
  NF_HD GradientRows(const float* dL_dy, int first, int n, int stride) {
    uint32_t at[kLanes];
    for (int l = 0; l < kLanes; ++l) at[l] = static_cast<uint32_t>(std::min(first + l, n - 1) * stride);
    gather_rows<float, F>(dL_dy, at, rows);
  }

  NF_HD vf dot(const vf (&features)[F]) const {
    vf sums[F];
    for (int v = 0; v < F; ++v) sums[v] = rows[v] * features[v];
    for (int width = F / 2; width > 0; width /= 2)
      for (int v = 0; v < width; ++v) sums[v] = sum_pairs(sums[2 * v], sums[2 * v + 1]);
    return sums[0];
  }
};

// A number at the vertices of cells and its differences along axes, in units of a cell.
template <int D>
struct Differences {
  vf value, d[D];

  template <int kAxis>
  NF_HD void join(const Differences& hi, const vf (&upper)[D]) {
    for (int a = 0; a < kAxis; ++a) d[a] = madd(upper[kAxis], hi.d[a] - d[a], d[a]);
    d[kAxis] = hi.value - value;
    value = madd(upper[kAxis], d[kAxis], value);
  }
};

// The same with the differences of its derivative along a direction in which upper weights rise by `rise`; those of
// upper weights themselves apart.
template <int D>
struct SecondDifferences {
  vf value, along, d[D], d_along[D];

  template <int kAxis>
  NF_HD void join(const SecondDifferences& hi, const vf (&upper)[D], const vf (&rise)[D]) {
    for (int a = 0; a < kAxis; ++a) {
      const vf change = hi.d[a] - d[a];
      d_along[a] = madd(upper[kAxis], hi.d_along[a] - d_along[a], madd(rise[kAxis], change, d_along[a]));
      d[a] = madd(upper[kAxis], change, d[a]);
    }
    d_along[kAxis] = hi.along - along;
    d[kAxis] = hi.value - value;
    along = madd(upper[kAxis], d_along[kAxis], madd(rise[kAxis], d[kAxis], along));
    value = madd(upper[kAxis], d[kAxis], value);
  }
};

// Rows of features and their derivative along that direction; weights spread as gather_rows orders values.
template <int D, int F>
struct RowsAlong {
  vf value[F], along[F];

  template <int kAxis>
  NF_HD void join(const RowsAlong& hi, const vf (&upper)[D][F], const vf (&rise)[D][F]) {
    for (int v = 0; v < F; ++v) {
      const vf change = hi.value[v] - value[v];
      along[v] = madd(upper[kAxis][v], hi.along[v] - along[v], madd(rise[kAxis][v], change, along[v]));
      value[v] = madd(upper[kAxis][v], change, value[v]);
    }
  }
};

// Joins what at_vertex(corner, node) sets at all corners, along the axes below kAxes; depth first, so that few are
// alive.
template <int kAxes, typename Node, typename AtVertex, typename... Weights>
NF_HD void join_corners(const AtVertex& at_vertex, int corner, Node& node, const Weights&... weights) {
  if constexpr (kAxes == 0) {
    node = Node{};
    at_vertex(corner, node);
  } else {
    Node hi;
    join_corners<kAxes - 1>(at_vertex, corner, node, weights...);
    join_corners<kAxes - 1>(at_vertex, corner | 1 << (kAxes - 1), hi, weights...);
    node.template join<kAxes - 1>(hi, weights...);
  }
}

// Sets node.value of a corner to dL/dy . feature.
template <typename P, int D, int F>
struct Projected {
  const P* table;
  const GridBlock<D>* block;
  int j;
  GradientRows<F> gradients;

  template <typename Node>
  NF_HD void operator()(int corner, Node& node) const {
    vf features[F];
    gather_rows<P, F>(table, block->indices[corner] + j, features);
    node.value = gradients.dot(features);
  }
};

}  // namespace detail

// Below, levels, table and x are as for encode_levels; dL_dy [n, n_levels, F] of the same samples. Nothing is to be
// done for Interpolation::kNearest.

// sums[d][i] += dL/dx_d of sample i, from all levels. Whole vectors of x and sums are read.
template <typename P, int D, int F>
void add_input_gradients(const GridLevel* levels, int n_levels, Interpolation interpolation, const P* table,
                         const float* const* x, int64_t n, const float* dL_dy, float* const* sums) {
  const auto use = [&](int l, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    const P* rows = table + (levels[l].offset - levels->offset) * F;
    const float* gradients = dL_dy + (begin * n_levels + l) * F;
    for (int j = 0; j < n_block; j += kLanes) {
      const detail::Projected<P, D, F> projected{rows, &block, j, {gradients, j, n_block, n_levels}};
      vf upper[D];
      for (int d = 0; d < D; ++d) upper[d] = load(block.upper[d] + j);
      detail::Differences<D> node;
      detail::join_corners<D>(projected, 0, node, upper);
      for (int d = 0; d < D; ++d) {
        float* sum = sums[d] + begin + j;
        store(sum, madd(detail::Slope(levels[l], interpolation, x[d] + begin + j).slope, node.d[d], load(sum)));
      }
    }
  };
  detail::for_blocks<D>(levels, n_levels, interpolation, x, n, table, F * sizeof(P), use);
}

// The same for H = v . dL/dx: sums[d][i] += dH/dx_d, v as x.
template <typename P, int D, int F>
void add_second_input_gradients(const GridLevel* levels, int n_levels, Interpolation interpolation, const P* table,
                                const float* const* x, const float* const* v, int64_t n, const float* dL_dy,
                                float* const* sums) {
  const auto use = [&](int l, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    const P* rows = table + (levels[l].offset - levels->offset) * F;
    const float* gradients = dL_dy + (begin * n_levels + l) * F;
    for (int j = 0; j < n_block; j += kLanes) {
      const detail::Projected<P, D, F> projected{rows, &block, j, {gradients, j, n_block, n_levels}};
      vf upper[D], rise[D], slope[D], bend[D];
      for (int d = 0; d < D; ++d) {
        const detail::Slope of_axis(levels[l], interpolation, x[d] + begin + j);
        const vf direction = load(v[d] + begin + j);
        upper[d] = load(block.upper[d] + j);
        slope[d] = of_axis.slope;
        rise[d] = of_axis.slope * direction;
        bend[d] = of_axis.curvature * direction;
      }
      detail::SecondDifferences<D> node;
      detail::join_corners<D>(projected, 0, node, upper, rise);
      for (int d = 0; d < D; ++d) {
        float* sum = sums[d] + begin + j;
        store(sum, madd(slope[d], node.d_along[d], madd(bend[d], node.d[d], load(sum))));
      }
    }
  };
  detail::for_blocks<D>(levels, n_levels, interpolation, x, n, table, F * sizeof(P), use);
}

// out[l * level_stride + i * F + f] = the derivative along v of feature f of sample i in level l.
template <typename P, int D, int F>
void encode_levels_along(const GridLevel* levels, int n_levels, Interpolation interpolation, const P* table,
                         const float* const* x, const float* const* v, int64_t n, float* out, int64_t level_stride) {
  const auto use = [&](int l, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    const P* rows = table + (levels[l].offset - levels->offset) * F;
    float* to = out + l * level_stride + begin * F;
    for (int j = 0; j < n_block; j += kLanes, to += kLanes * F) {
      vf upper[D][F], rise[D][F];
      for (int d = 0; d < D; ++d) {
        const detail::Slope of_axis(levels[l], interpolation, x[d] + begin + j);
        spread<F>(load(block.upper[d] + j), upper[d]);
        spread<F>(of_axis.slope * load(v[d] + begin + j), rise[d]);
      }
      const auto features = [&](int corner, detail::RowsAlong<D, F>& node) {
        gather_rows<P, F>(rows, block.indices[corner] + j, node.value);
      };
      detail::RowsAlong<D, F> node;
      detail::join_corners<D>(features, 0, node, upper, rise);
      detail::store_rows<F>(node.along, std::min(kLanes, n_block - j), to, F);
    }
  };
  detail::for_blocks<D>(levels, n_levels, interpolation, x, n, table, F * sizeof(P), use);
}

// scatter_level of the derivatives of weights along v: grad[corner][f] += (v . d weight / dx) * dL_dy[i * F + f]. Whole
// vectors of x and v are read.
template <int D, int F>
void scatter_level_along(const GridLevel& level, Interpolation interpolation, const float* const* x,
                         const float* const* v, int64_t n, const float* dL_dy, float* grad) {
  const auto use = [&](int, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    float rise[D][detail::GridBlock<D>::kSize];
    for (int d = 0; d < D; ++d)
      for (int j = 0; j < n_block; j += kLanes)
        store(rise[d] + j, detail::Slope(level, interpolation, x[d] + begin + j).slope * load(v[d] + begin + j));
    const auto share = [&](int i, detail::Corners<D, F>& corners) {
      corners.set_derivative(block, rise, i, dL_dy + (begin + i) * F);
    };
    detail::scatter_block<D, F, 1 << D>(block, n_block, share, grad);
  };
  detail::for_blocks<D>(&level, 1, interpolation, x, n, grad, F * sizeof(float), use);
}

}  // namespace nf::cpu
