// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_radiance.h"

#include "bindings/fused_field.h"

namespace nf {

static cpu::FusedSamples samples_of(const Array<float, 2>& positions, const Array<float, 3>& dL_dencoding,
                                    const Array<int64_t, 1>& slot_counts) {
  return {positions.data(), dL_dencoding.data(), slot_counts.data(), static_cast<int64_t>(positions.shape(1))};
}

template <typename T>
static T* data_or_null(const std::optional<Array<T, 1>>& array) {
  return array ? array->data() : nullptr;
}

void bind_fused_radiance(nb::module_& m) {
  m.attr("fused_slots") = cpu::kFusedSlots;
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
         Rays background, std::optional<Array<float, 2>> distances, std::array<float, 4> loss, float samples_per_ray,
         Array<float, 2> positions, Array<float, 3> dL_dencoding, Array<int64_t, 1> slot_counts,
         Array<float, 1> dL_ddensity, Array<float, 1> dL_dcolor, Array<float, 2> slot_gradients, Scratch scratch,
         std::optional<Array<float, 2>> rgb, std::optional<Array<float, 1>> depth, std::optional<Array<float, 1>> acc) {
        const int rays_per_pixel = target.shape(0) ? static_cast<int>(origins.shape(0) / target.shape(0)) : 1;
        const cpu::FusedReport r = cpu::fused_gradients(
            field_of(sizes, scales, table, density, color), march_of(bitfield, coarse, march, jitter),
            {origins.data(), directions.data(), static_cast<int64_t>(origins.shape(0))},
            {target.data(), background.data(), distances ? distances->data() : nullptr, rays_per_pixel},
            {loss[0], loss[1], loss[2], loss[3]}, samples_per_ray, samples_of(positions, dL_dencoding, slot_counts),
            dL_ddensity.data(), dL_dcolor.data(), {rgb ? rgb->data() : nullptr, data_or_null(depth), data_or_null(acc)},
            slot_gradients.data(), bytes(scratch), scratch.shape(1));
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
      nb::arg("target").noconvert(), nb::arg("background").noconvert(), nb::arg("distances").noconvert().none(),
      nb::arg("loss"), nb::arg("samples_per_ray"), nb::arg("positions").noconvert(),
      nb::arg("dL_dencoding").noconvert(), nb::arg("slot_counts").noconvert(), nb::arg("dL_ddensity").noconvert(),
      nb::arg("dL_dcolor").noconvert(), nb::arg("slot_gradients").noconvert(), nb::arg("scratch").noconvert(),
      nb::arg("rgb").noconvert().none(), nb::arg("depth").noconvert().none(), nb::arg("acc").noconvert().none(),
      ReleaseGil());
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

}  // namespace nf
