// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_radiance.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"
#include "bindings/occupancy.h"
#include "cpu/mlp_tile.h"

namespace nf {

// Python hands over a field as its sizes, its scales and three arrays (neurfield/ops/fused_radiance.py: FusedField).
//   sizes: grid (n_levels, n_features_per_level, log2_hashmap_size, base_resolution, type, interpolation),
//          density net and colour net (n_inputs, n_outputs, width, n_hidden, activation, output_activation), sh_degree,
//          whether products in bf16 are welcome
//   scales: per_level_scale, box_low x y z, box_scale x y z, input_padding of the density net and the colour net
using Sizes = std::array<int, 20>;
using Scales = std::array<float, 9>;
using Table = nb::ndarray<nb::ndim<1>, nb::c_contig, nb::device::cpu>;  // float, or the bits of half as int16
using Params = Array<const float, 1>;
using Rays = Array<const float, 2>;
using Bits = Array<const uint8_t, 2>;
using Scratch = Array<uint8_t, 2>;  // [n_threads, bytes]
// step_scale, cone_angle, near, far, stop_trans, max_samples; and a jitter's seed and step
using March = std::array<float, 6>;
using Jitter = std::optional<std::array<int64_t, 2>>;

static cpu::FusedNet net_of(const int* s, float input_padding, const float* params) {
  return {params, s[0], s[1], s[2], s[3], Activation(s[4]), Activation(s[5]), input_padding};
}

static cpu::FusedField field_of(const Sizes& s, const Scales& scales, const void* table, bool is_half,
                                const float* density, const float* color) {
  cpu::FusedField field{};
  field.grid = {3, s[0], s[1], s[2], s[3], scales[0], GridType(s[4]), Interpolation(s[5])};
  field.table = table;
  field.table_is_half = is_half;
  for (int axis = 0; axis < 3; ++axis) {
    field.box_low[axis] = scales[1 + axis];
    field.box_scale[axis] = scales[4 + axis];
  }
  field.density = net_of(s.data() + 6, scales[7], density);
  field.color = net_of(s.data() + 12, scales[8], color);
  field.sh_degree = s[18];
  field.bf16_products = s[19] && cpu::fused_bf16_supported(field.density, field.color);
  return field;
}
static cpu::FusedField field_of(const Sizes& sizes, const Scales& scales, const Table& table, const Params& density,
                                const Params& color) {
  return field_of(sizes, scales, table.data(), table.dtype().bits == 16, density.data(), color.data());
}

static cpu::FusedMarch march_of(const Bits& bitfield, const Bits& coarse, const March& m, const Jitter& jitter) {
  cpu::FusedMarch march{};
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

static std::byte* bytes(const Scratch& scratch) { return reinterpret_cast<std::byte*>(scratch.data()); }

static cpu::FusedSamples samples_of(const Array<float, 2>& positions, const Array<float, 3>& dL_dencoding,
                                    const Array<int64_t, 1>& slot_counts) {
  return {positions.data(), dL_dencoding.data(), slot_counts.data(), static_cast<int64_t>(positions.shape(1))};
}

template <typename T>
static T* data_or_null(const std::optional<Array<T, 1>>& array) {
  return array ? array->data() : nullptr;
}

static void bind_training(nb::module_& m) {
  m.attr("fused_slots") = cpu::kFusedSlots;
  m.attr("has_bf16_products") = cpu::bf16_products();
  m.def(
      "fused_workspace_sizes",  // values of a slot's gradients, bytes of scratch per thread
      [](const Sizes& sizes, const Scales& scales, int max_samples) {
        const cpu::FusedField field = field_of(sizes, scales, nullptr, false, nullptr, nullptr);
        cpu::FusedMarch march{};
        march.max_samples = max_samples;
        return std::array<int64_t, 2>{cpu::fused_gradient_size(field), cpu::fused_scratch_bytes(field, march)};
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("max_samples"));
  m.def(
      "fused_gradients",
      [](const Sizes& sizes, const Scales& scales, Table table, Params density, Params color, Rays origins,
         Rays directions, Bits bitfield, Bits coarse, const March& march, const Jitter& jitter, Rays target,
         Rays background, std::array<float, 4> loss, float samples_per_ray, Array<float, 2> positions,
         Array<float, 3> dL_dencoding, Array<int64_t, 1> slot_counts, Array<float, 1> dL_ddensity,
         Array<float, 1> dL_dcolor, Array<float, 2> slot_gradients, Scratch scratch, std::optional<Array<float, 2>> rgb,
         std::optional<Array<float, 1>> depth, std::optional<Array<float, 1>> acc) {
        const int rays_per_pixel = target.shape(0) ? static_cast<int>(origins.shape(0) / target.shape(0)) : 1;
        const cpu::FusedReport r = cpu::fused_gradients(
            field_of(sizes, scales, table, density, color), march_of(bitfield, coarse, march, jitter),
            {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))},
            {target.data(), background.data(), rays_per_pixel}, {loss[0], loss[1], loss[2], loss[3]}, samples_per_ray,
            samples_of(positions, dL_dencoding, slot_counts), dL_ddensity.data(), dL_dcolor.data(),
            {rgb ? rgb->data() : nullptr, data_or_null(depth), data_or_null(acc)}, slot_gradients.data(),
            bytes(scratch), scratch.shape(1));
        return std::array<double, 6>{r.loss,
                                     r.squared_error,
                                     double(r.n_rays_used),
                                     double(r.n_samples),
                                     double(r.n_evaluated),
                                     double(r.is_finite)};
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("table").noconvert(), nb::arg("density").noconvert(),
      nb::arg("color").noconvert(), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("target").noconvert(), nb::arg("background").noconvert(), nb::arg("loss"), nb::arg("samples_per_ray"),
      nb::arg("positions").noconvert(), nb::arg("dL_dencoding").noconvert(), nb::arg("slot_counts").noconvert(),
      nb::arg("dL_ddensity").noconvert(), nb::arg("dL_dcolor").noconvert(), nb::arg("slot_gradients").noconvert(),
      nb::arg("scratch").noconvert(), nb::arg("rgb").noconvert().none(), nb::arg("depth").noconvert().none(),
      nb::arg("acc").noconvert().none(), ReleaseGil());
  m.def(
      "fused_table_gradient",
      [](const Sizes& sizes, const Scales& scales, Array<float, 2> positions, Array<float, 3> dL_dencoding,
         Array<int64_t, 1> slot_counts, Array<float, 1> dL_dtable) {
        const cpu::FusedField field = field_of(sizes, scales, nullptr, false, nullptr, nullptr);
        cpu::fused_table_gradient(field.grid, samples_of(positions, dL_dencoding, slot_counts), dL_dtable.data());
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("positions").noconvert(), nb::arg("dL_dencoding").noconvert(),
      nb::arg("slot_counts").noconvert(), nb::arg("dL_dtable").noconvert(), ReleaseGil());
  m.def(
      "fused_table_adam",  // adam: learning_rate, beta1, beta2, epsilon
      [](const Sizes& sizes, const Scales& scales, Array<float, 2> positions, Array<float, 3> dL_dencoding,
         Array<int64_t, 1> slot_counts, std::array<double, 4> adam, int64_t step, Array<float, 1> params,
         Array<float, 1> exp_avg, Array<float, 1> exp_avg_sq, std::optional<Array<int16_t, 1>> steps,
         std::optional<Array<int16_t, 1>> copy, Array<float, 2> grad_scratch) {
        const cpu::FusedField field = field_of(sizes, scales, nullptr, false, nullptr, nullptr);
        AdamConfig config{};
        config.learning_rate = adam[0];
        config.beta1 = adam[1];
        config.beta2 = adam[2];
        config.epsilon = adam[3];
        config.skip_zero = true;
        cpu::fused_table_adam(field.grid, samples_of(positions, dL_dencoding, slot_counts), config, step,
                              {params.data(), nullptr, exp_avg.data(), exp_avg_sq.data(), data_or_null(steps),
                               reinterpret_cast<half*>(data_or_null(copy))},
                              grad_scratch.data());
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("positions").noconvert(), nb::arg("dL_dencoding").noconvert(),
      nb::arg("slot_counts").noconvert(), nb::arg("adam"), nb::arg("step"), nb::arg("params").noconvert(),
      nb::arg("exp_avg").noconvert(), nb::arg("exp_avg_sq").noconvert(), nb::arg("steps").noconvert().none(),
      nb::arg("copy").noconvert().none(), nb::arg("grad_scratch").noconvert(), ReleaseGil());
}

static void bind_evaluation(nb::module_& m) {
  m.def(
      "fused_render_scratch_bytes",
      [](const Sizes& sizes, const Scales& scales) {
        const cpu::FusedField field = field_of(sizes, scales, nullptr, false, nullptr, nullptr);
        return cpu::fused_render_scratch_bytes(field, cpu::FusedMarch{});
      },
      nb::arg("sizes"), nb::arg("scales"));
  m.def(
      "fused_render",
      [](const Sizes& sizes, const Scales& scales, Table table, Params density, Params color, Rays origins,
         Rays directions, Bits bitfield, Bits coarse, const March& march, const Jitter& jitter, float skip_weight,
         Scratch scratch, Array<float, 2> rgb, Array<float, 1> depth, Array<float, 1> median_depth,
         Array<float, 1> acc) {
        cpu::fused_render(field_of(sizes, scales, table, density, color), march_of(bitfield, coarse, march, jitter),
                          {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))}, skip_weight,
                          {rgb.data(), depth.data(), median_depth.data(), acc.data()}, bytes(scratch),
                          scratch.shape(1));
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("table").noconvert(), nb::arg("density").noconvert(),
      nb::arg("color").noconvert(), nb::arg("origins").noconvert(), nb::arg("directions").noconvert(),
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), nb::arg("march"), nb::arg("jitter").none(),
      nb::arg("skip_weight"), nb::arg("scratch").noconvert(), nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(),
      nb::arg("median_depth").noconvert(), nb::arg("acc").noconvert(), ReleaseGil());
  m.def(
      "fused_density",
      [](const Sizes& sizes, const Scales& scales, Table table, Params density, Params color, Rays positions,
         Scratch scratch, Array<float, 1> sigma) {
        cpu::fused_density(field_of(sizes, scales, table, density, color), positions.data(), positions.shape(0),
                           sigma.data(), bytes(scratch), scratch.shape(1));
      },
      nb::arg("sizes"), nb::arg("scales"), nb::arg("table").noconvert(), nb::arg("density").noconvert(),
      nb::arg("color").noconvert(), nb::arg("positions").noconvert(), nb::arg("scratch").noconvert(),
      nb::arg("sigma").noconvert(), ReleaseGil());
}

void bind_fused_radiance(nb::module_& m) {
  bind_training(m);
  bind_evaluation(m);
}

}  // namespace nf
