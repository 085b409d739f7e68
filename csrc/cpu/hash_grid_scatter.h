// SPDX-License-Identifier: Apache-2.0
// The gradient of the table of one level from the samples in it, over the blocks of hash_grid_tile.h.
#pragma once

#include "cpu/hash_grid_tile.h"

namespace nf::cpu {

namespace detail {

template <int F>
struct Row {  // F floats that are added as one
  typedef float Values __attribute__((vector_size(F * sizeof(float))));
};
template <>
struct Row<1> {
  typedef float Values;
};

// Values of the 2^D corners of one cell, F each, as kParts vectors.
template <int D, int F>
struct Corners {
  static constexpr int kValues = F << D, kPart = min(kValues, kLanes), kParts = kValues / kPart;
  typedef float Part __attribute__((vector_size(kPart * 4)));
  typedef int32_t Mask __attribute__((vector_size(kPart * 4)));
  typedef int64_t Doubles __attribute__((vector_size(kPart * 4)));
  Part parts[kParts];

  // The share of each corner in sample i, times dL_dy [F].
  NF_HD void set(const GridBlock<D>& block, int i, const float* dL_dy) {
    set_parts(block, i, dL_dy, std::make_integer_sequence<int, kParts>());
  }
  // The derivative of that along a direction, where the weight of the upper vertex on axis d rises by rise[d][i].
  NF_HD void set_derivative(const GridBlock<D>& block, const float (&rise)[D][GridBlock<D>::kSize], int i,
                            const float* dL_dy) {
    set_derivative_parts(block, rise, i, dL_dy, std::make_integer_sequence<int, kParts>());
  }
  NF_HD void add(const Corners& other) {
    for (int p = 0; p < kParts; ++p) parts[p] += other.parts[p];
  }

 private:
  template <int... P>
  NF_HD void set_parts(const GridBlock<D>& block, int i, const float* dL_dy, std::integer_sequence<int, P...>) {
    constexpr auto axes = std::make_integer_sequence<int, D>();
    ((parts[P] = weight<P>(block, i, axes) * repeated<P>(dL_dy)), ...);
  }
  template <int... P>
  NF_HD void set_derivative_parts(const GridBlock<D>& block, const float (&rise)[D][GridBlock<D>::kSize], int i,
                                  const float* dL_dy, std::integer_sequence<int, P...>) {
    constexpr auto axes = std::make_integer_sequence<int, D>();
    ((parts[P] = derivative<P>(block, rise, i, axes) * repeated<P>(dL_dy)), ...);
  }
  template <int P, int... Axis>
  NF_HD static Part derivative(const GridBlock<D>& block, const float (&rise)[D][GridBlock<D>::kSize], int i,
                               std::integer_sequence<int, Axis...>) {
    constexpr auto lanes = std::make_integer_sequence<int, kPart>();
    Part product = 1.0f - Part{}, derivative{};
    const auto times = [&](Part side, Part change) {
      derivative = derivative * side + product * change;
      product *= side;
    };
    (times(side<P, Axis>(block.upper[Axis][i], lanes), change<P, Axis>(rise[Axis][i], lanes)), ...);
    return derivative;
  }
  template <int P, int... Axis>
  NF_HD static Part weight(const GridBlock<D>& block, int i, std::integer_sequence<int, Axis...>) {
    constexpr auto lanes = std::make_integer_sequence<int, kPart>();
    return (... * side<P, Axis>(block.upper[Axis][i], lanes));
  }
  template <int P, int Axis, int... L>
  NF_HD static Part side(float upper, std::integer_sequence<int, L...>) {
    const Part u = upper - Part{};
    return Mask{-((P * kPart + L) / F >> Axis & 1)...} ? u : 1.0f - u;
  }
  template <int P, int Axis, int... L>
  NF_HD static Part change(float rise, std::integer_sequence<int, L...>) {
    const Part r = rise - Part{};
    return Mask{-((P * kPart + L) / F >> Axis & 1)...} ? r : -r;
  }
  template <int P>
  NF_HD static Part repeated(const float* row) {
    if constexpr (F == 1) {
      return *row - Part{};
    } else if constexpr (F == 2) {
      int64_t both;
      std::memcpy(&both, row, sizeof both);
      return (Part)(both + Doubles{});
    } else {
      Part part;
      for (int l = 0; l < kPart; l += min(F, kPart))
        std::memcpy(reinterpret_cast<float*>(&part) + l, row + P * kPart % F, min(F, kPart) * sizeof(float));
      return part;
    }
  }
};

// Adds the corners of n samples to the table; share(i, corners) sets those of sample i. Samples that follow one another
// in one cell, as along a ray through a coarse level, are added up before they reach the table.
template <int D, int F, int kCorners, typename Share>
NF_HD void scatter_block(const GridBlock<D>& block, int n, const Share& share, float* grad) {
  using Values = typename Row<F>::Values;
  Corners<D, F> sum;
  for (int i = 0; i < n; ++i) {
    Corners<D, F> of_sample;
    share(i, of_sample);
    if (block.goes_on[i])
      sum.add(of_sample);
    else
      sum = of_sample;
    if (i + 1 < n && block.goes_on[i + 1]) continue;
#pragma GCC unroll 16
    for (int k = 0; k < kCorners; ++k) {
      float* entry = grad + int64_t(block.indices[k][i]) * F;
      Values value, more;
      std::memcpy(&value, entry, sizeof value);
      std::memcpy(&more, reinterpret_cast<const float*>(&sum) + k * F, sizeof more);
      value += more;
      std::memcpy(entry, &value, sizeof value);
    }
  }
}

}  // namespace detail

// grad[corner][f] += weight * dL_dy[i * dL_dy_stride + f] for all corners of all samples, in the order of samples.
// `grad` [n_entries, F] is this level's; one caller at a time.
template <int D, int F>
void scatter_level(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t n,
                   const float* dL_dy, int64_t dL_dy_stride, float* grad) {
  const auto use = [&](int, const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    const auto share = [&, rows = dL_dy + begin * dL_dy_stride](int i, detail::Corners<D, F>& corners) {
      corners.set(block, i, rows + i * dL_dy_stride);
    };
    if (interpolation == Interpolation::kNearest)
      detail::scatter_block<D, F, 1>(block, n_block, share, grad);
    else
      detail::scatter_block<D, F, 1 << D>(block, n_block, share, grad);
  };
  detail::for_blocks<D>(&level, 1, interpolation, x, n, grad, F * sizeof(float), use);
}

}  // namespace nf::cpu
