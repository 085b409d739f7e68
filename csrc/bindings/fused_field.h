// SPDX-License-Identifier: Apache-2.0
// A radiance field, a march and rays as Python hands them over.
#pragma once

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"
#include "bindings/occupancy.h"
#include "ops/fused_render.h"
#ifndef NF_CUDA
#include "cpu/fused_radiance.h"
#endif

namespace nf {

// Python hands over a field as its sizes, its scales and three arrays (neurfield/ops/fused_radiance.py: FusedField).
//   sizes: grid (n_levels, n_features_per_level, log2_hashmap_size, base_resolution, type, interpolation),
//          density net and colour net (n_inputs, n_outputs, width, n_hidden, activation, output_activation), sh_degree,
//          whether products in bf16 are welcome
//   scales: per_level_scale, box_low x y z, box_scale x y z, input_padding of the density net and the colour net; beta,
//           radius, scale, alpha and reach of a surface, all 0 without one
using Sizes = std::array<int, 20>;
using Scales = std::array<float, 14>;
using Table = Array<void, 1>;  // float, or the bits of half as int16
using Params = Array<const float, 1>;
using Rays = Array<const float, 2>;
using Bits = Array<const uint8_t, 2>;
using Scratch = Array<uint8_t, 2>;  // [n_threads, bytes]
// step_scale, cone_angle, near, far, stop_trans, max_samples; and a jitter's seed and step
using March = std::array<float, 6>;
using Jitter = std::optional<std::array<int64_t, 2>>;

inline backend::FusedNet net_of(const int* s, float input_padding, const float* params) {
  return {params, s[0], s[1], s[2], s[3], Activation(s[4]), Activation(s[5]), input_padding};
}

inline backend::FusedField field_of(const Sizes& s, const Scales& scales, const void* table, bool is_half,
                                    const float* density, const float* color) {
  backend::FusedField field{};
  field.grid = {3, s[0], s[1], s[2], s[3], scales[0], GridType(s[4]), Interpolation(s[5])};
  field.table = table;
  field.table_is_half = is_half;
  for (int axis = 0; axis < 3; ++axis) {
    field.box_low[axis] = scales[1 + axis];
    field.box_scale[axis] = scales[4 + axis];
  }
  field.density = net_of(s.data() + 6, scales[7], density);
  field.color = net_of(s.data() + 12, scales[8], color);
  field.surface = {scales[9], scales[10], scales[11], scales[12], scales[13], 1.0f / scales[4]};
  field.sh_degree = s[18];
#ifdef NF_CUDA
  field.bf16_products = false;
#else
  field.bf16_products = s[19] && cpu::fused_bf16_supported(field.density, field.color);
#endif
  return field;
}
inline backend::FusedField field_of(const Sizes& sizes, const Scales& scales, const Table& table, const Params& density,
                                    const Params& color) {
  return field_of(sizes, scales, table.data(), table.dtype().bits == 16, density.data(), color.data());
}

inline backend::FusedMarch march_of(const Bits& bitfield, const Bits& coarse, const March& m, const Jitter& jitter) {
  backend::FusedMarch march{};
  march.grid = occupancy_view(bitfield, coarse);
  march.lattice = StepLattice::make(m[0], m[1]);
  march.near = m[2];
  march.far = m[3];
  march.stop_trans = m[4];
  march.max_samples = static_cast<int>(m[5]);
  march.jitter = jitter.has_value();
  if (jitter)
    march.jitter_stream =
        random_stream(static_cast<uint64_t>((*jitter)[0]), static_cast<uint64_t>((*jitter)[1]), kMarchStream);
  return march;
}

inline std::byte* bytes(const Scratch& scratch) { return reinterpret_cast<std::byte*>(scratch.data()); }

}  // namespace nf
