// SPDX-License-Identifier: Apache-2.0
#include "ops/kilo_mlp.h"

#include <nanobind/stl/tuple.h>

#include <tuple>

#include "bindings/common.h"

namespace nf {

namespace {

// width, position_frequencies, direction_frequencies
using ShapeTuple = std::tuple<int32_t, int32_t, int32_t>;

KiloShape make_shape(const ShapeTuple& t) { return {std::get<0>(t), std::get<1>(t), std::get<2>(t)}; }

template <typename T>
backend::KiloInputs<T> make_inputs(const ShapeTuple& shape, const Array<const T, 2>& x, const Array<const T, 2>& d,
                                   const Array<const int32_t, 1>& network, const Array<const T, 2>& params,
                                   bool has_color) {
  return {make_shape(shape),
          params.data(),
          static_cast<int64_t>(params.shape(0)),
          x.data(),
          has_color ? d.data() : nullptr,
          network.data(),
          static_cast<int64_t>(x.shape(0))};
}

template <typename T>
void bind(nb::module_& m) {
  m.def(
      "kilo_mlp_forward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 2> d, Array<const int32_t, 1> network,
         Array<const T, 2> params, Array<T, 2> y, Array<int64_t, 1> sort, bool has_color) {
        backend::kilo_mlp_forward<T>(make_inputs<T>(shape, x, d, network, params, has_color), y.data(), sort.data());
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("d").noconvert(), nb::arg("network").noconvert(),
      nb::arg("params").noconvert(), nb::arg("y").noconvert(), nb::arg("sort").noconvert(), nb::arg("has_color"),
      ReleaseGil());
  m.def(
      "kilo_mlp_backward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 2> d, Array<const int32_t, 1> network,
         Array<const T, 2> params, Array<const T, 2> dL_dy, Array<T, 2> dL_dparams, Array<T, 2> dL_dx,
         Array<T, 2> dL_dd, Array<int64_t, 1> sort, Array<T, 1> slots, bool has_color, bool needs_params, bool needs_x,
         bool needs_d) {
        expect_size("kilo_mlp_backward: grad_y", static_cast<int64_t>(x.shape(0)) * (has_color ? 4 : 1), dL_dy.size());
        backend::kilo_mlp_backward<T>(make_inputs<T>(shape, x, d, network, params, has_color), dL_dy.data(),
                                      needs_params ? dL_dparams.data() : nullptr, needs_x ? dL_dx.data() : nullptr,
                                      needs_d ? dL_dd.data() : nullptr, sort.data(), slots.data());
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("d").noconvert(), nb::arg("network").noconvert(),
      nb::arg("params").noconvert(), nb::arg("dL_dy").noconvert(), nb::arg("dL_dparams").noconvert(),
      nb::arg("dL_dx").noconvert(), nb::arg("dL_dd").noconvert(), nb::arg("sort").noconvert(),
      nb::arg("slots").noconvert(), nb::arg("has_color"), nb::arg("needs_params"), nb::arg("needs_x"),
      nb::arg("needs_d"), ReleaseGil());
}

}  // namespace

void bind_kilo_mlp(nb::module_& m) {
  m.def("kilo_sort_scratch", &backend::kilo_sort_scratch, nb::arg("n"), nb::arg("n_networks"));
  m.def("kilo_n_slots", &backend::kilo_n_slots, nb::arg("n"));
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
