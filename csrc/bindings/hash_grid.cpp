// SPDX-License-Identifier: Apache-2.0
#include "ops/hash_grid.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include "bindings/common.h"
#ifndef NF_CUDA
#include "cpu/hash_grid.h"
#include "cpu/random_loads.h"
#endif

namespace nf {

// n_dims, n_levels, n_features_per_level, log2_hashmap_size, base_resolution, type, interpolation
using Layout = std::array<int, 7>;
static GridConfig config_of(const Layout& v, float per_level_scale) {
  return {v[0], v[1], v[2], v[3], v[4], per_level_scale, GridType(v[5]), Interpolation(v[6])};
}

using PerSample = std::optional<Array<const float, 1>>;  // one value for all samples or one each

template <typename A>
auto data_or_null(const std::optional<A>& array) -> decltype(array->data()) {
  return array ? array->data() : nullptr;
}

// float16 arrives as its bits: the Python layer passes view(int16).
template <typename P>
struct Storage {
  using Stored = P;
};
template <>
struct Storage<half> {
  using Stored = int16_t;
};

template <typename T>
void check_gradient(const Layout& v, const Array<const T, 2>& x, const Array<const T, 2>& dL_dy) {
  expect_size("hash_grid: grad_y", static_cast<int64_t>(x.shape(0)) * v[1] * v[2], dL_dy.size());
}

static MaxLevel max_level_of(const PerSample& values) {
  return values ? MaxLevel{values->data(), values->shape(0) != 1} : MaxLevel{};
}

template <typename T, typename P>
static void bind_table(nb::module_& m) {
  using Stored = typename Storage<P>::Stored;
  m.def(
      "hash_grid_forward",
      [](const Layout& layout, float per_level_scale, Array<const T, 2> x, Array<const Stored, 1> params,
         PerSample max_level, Array<T, 2> y) {
        backend::hash_grid_forward(config_of(layout, per_level_scale), x.data(),
                                   reinterpret_cast<const P*>(params.data()), max_level_of(max_level), y.data(),
                                   x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("max_level").none(), nb::arg("y").noconvert(), ReleaseGil());
  m.def(
      "hash_grid_backward_input",
      [](const Layout& layout, float per_level_scale, Array<const T, 2> x, Array<const Stored, 1> params,
         Array<const T, 2> dL_dy, PerSample max_level, Array<T, 2> dL_dx) {
        check_gradient<T>(layout, x, dL_dy);
        backend::hash_grid_backward_input(config_of(layout, per_level_scale), x.data(),
                                          reinterpret_cast<const P*>(params.data()), dL_dy.data(),
                                          max_level_of(max_level), dL_dx.data(), x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("dL_dy").noconvert(), nb::arg("max_level").none(), nb::arg("dL_dx").noconvert(), ReleaseGil());
  m.def(
      "hash_grid_backward_backward_input",
      [](const Layout& layout, float per_level_scale, Array<const T, 2> x, Array<const Stored, 1> params,
         Array<const T, 2> dL_dy, Array<const T, 2> v, PerSample max_level, std::optional<Array<T, 1>> dH_dparams,
         std::optional<Array<T, 2>> dH_ddL_dy, std::optional<Array<T, 2>> dH_dx) {
        check_gradient<T>(layout, x, dL_dy);
        expect_size("hash_grid: grad_grad_x", x.size(), v.size());
        backend::hash_grid_backward_backward_input(config_of(layout, per_level_scale), x.data(),
                                                   reinterpret_cast<const P*>(params.data()), dL_dy.data(), v.data(),
                                                   max_level_of(max_level), data_or_null(dH_dparams),
                                                   data_or_null(dH_ddL_dy), data_or_null(dH_dx), x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("dL_dy").noconvert(), nb::arg("v").noconvert(), nb::arg("max_level").none(),
      nb::arg("dH_dparams").noconvert().none(), nb::arg("dH_ddL_dy").noconvert().none(),
      nb::arg("dH_dx").noconvert().none(), ReleaseGil());
}

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "hash_grid_backward_params",
      [](const Layout& layout, float per_level_scale, Array<const T, 2> x, Array<const T, 2> dL_dy, PerSample max_level,
         Array<T, 1> dL_dparams) {
        check_gradient<T>(layout, x, dL_dy);
        backend::hash_grid_backward_params(config_of(layout, per_level_scale), x.data(), dL_dy.data(),
                                           max_level_of(max_level), dL_dparams.data(), x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("dL_dy").noconvert(),
      nb::arg("max_level").none(), nb::arg("dL_dparams").noconvert(), ReleaseGil());
}

#ifdef NF_CUDA
static void bind_exact(nb::module_& m) {
  m.def(
      "hash_grid_backward_params_exact",
      [](const Layout& layout, float per_level_scale, Array<const float, 2> x, Array<const float, 2> dL_dy,
         PerSample max_level, Array<float, 1> dL_dparams, Array<int64_t, 1> scratch) {
        check_gradient<float>(layout, x, dL_dy);
        backend::hash_grid_backward_params_exact(config_of(layout, per_level_scale), x.data(), dL_dy.data(),
                                                 max_level_of(max_level), dL_dparams.data(), scratch.data(),
                                                 x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("dL_dy").noconvert(),
      nb::arg("max_level").none(), nb::arg("dL_dparams").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
}
#else
static void bind_backward_adam(nb::module_& m) {
  m.def(
      "hash_grid_backward_adam",
      [](const Layout& layout, float per_level_scale, Array<const float, 2> x, Array<const float, 2> dL_dy,
         Array<float, 1> params, Array<float, 1> exp_avg, Array<float, 1> exp_avg_sq,
         std::optional<Array<int16_t, 1>> steps, std::optional<Array<int16_t, 1>> copy, Array<float, 2> grad_scratch,
         const std::array<double, 5>& rates, int64_t step) {
        const cpu::AdamArrays<float> arrays{params.data(),       nullptr,
                                            exp_avg.data(),      exp_avg_sq.data(),
                                            data_or_null(steps), reinterpret_cast<half*>(data_or_null(copy))};
        const AdamConfig adam{rates[0], rates[1], rates[2], rates[3], rates[4], true, true};
        cpu::hash_grid_backward_adam(config_of(layout, per_level_scale), x.data(), dL_dy.data(), adam, step, arrays,
                                     grad_scratch.data(), x.shape(0));
      },
      nb::arg("layout"), nb::arg("per_level_scale"), nb::arg("x").noconvert(), nb::arg("dL_dy").noconvert(),
      nb::arg("params").noconvert(), nb::arg("exp_avg").noconvert(), nb::arg("exp_avg_sq").noconvert(),
      nb::arg("steps").noconvert().none(), nb::arg("copy").noconvert().none(), nb::arg("grad_scratch").noconvert(),
      nb::arg("rates"), nb::arg("step"), ReleaseGil());
}
#endif

void bind_hash_grid(nb::module_& m) {
  m.def(
      "hash_grid_levels",
      [](const Layout& layout, float per_level_scale) {
        nb::list levels;
        for (const GridLevel& level : hash_grid_levels(config_of(layout, per_level_scale)))
          levels.append(nb::make_tuple(level.scale, level.resolution, level.n_entries, level.offset, level.hashed));
        return levels;
      },
      nb::arg("layout"), nb::arg("per_level_scale"));
  bind_table<float, float>(m);
  bind_table<float, half>(m);
  bind_table<double, double>(m);
  bind<float>(m);
  bind<double>(m);
#ifdef NF_CUDA
  bind_exact(m);
#else
  bind_backward_adam(m);
  m.def("measure_random_loads", &cpu::measure_random_loads, nb::arg("table_bytes"), nb::arg("row_bytes"),
        nb::arg("seconds"), ReleaseGil());
#endif
}

}  // namespace nf
