// SPDX-License-Identifier: Apache-2.0
#include "cpu/fused_mlp.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <optional>
#include <tuple>

#include "bindings/common.h"
#include "cpu/fma_peak.h"

namespace nf {

namespace {

// n_input_dims, n_output_dims, n_neurons, n_hidden_layers, activation, output_activation, has_bias, input_padding,
// (first_omega, omega, scale), n_modulation, normalizes. A tuple and not a class: two modules of one process (baseline
// is always loaded) cannot both register a type.
using ShapeTuple = std::tuple<int64_t, int64_t, int64_t, int64_t, int, int, bool, double,
                              std::tuple<double, double, double>, int64_t, bool>;

cpu::MlpShape make_shape(const ShapeTuple& t) {
  const auto [first_omega, omega, scale] = std::get<8>(t);
  return {std::get<0>(t),
          std::get<1>(t),
          std::get<2>(t),
          std::get<3>(t),
          static_cast<Activation>(std::get<4>(t)),
          static_cast<Activation>(std::get<5>(t)),
          std::get<6>(t),
          std::get<7>(t),
          first_omega,
          {omega, scale},
          std::get<9>(t),
          std::get<10>(t)};
}

template <typename T>
void bind(nb::module_& m) {
  m.def(
      "fused_mlp_forward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 1> params,
         std::optional<Array<const T, 2>> modulation, Array<T, 2> y, Array<T, 1> saved, Array<T, 1> scratch) {
        cpu::fused_mlp_forward<T>(make_shape(shape), x.data(), params.data(), x.shape(0), y.data(),
                                  saved.shape(0) > 0 ? saved.data() : nullptr, scratch.data(),
                                  modulation ? modulation->data() : nullptr);
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("modulation").noconvert().none(), nb::arg("y").noconvert(), nb::arg("saved").noconvert(),
      nb::arg("scratch").noconvert(), ReleaseGil());
  m.def(
      "fused_mlp_backward",
      [](const ShapeTuple& shape, Array<const T, 2> x, Array<const T, 1> params,
         std::optional<Array<const T, 2>> modulation, Array<const T, 2> y, Array<const T, 1> saved,
         Array<const T, 2> dL_dy, Array<T, 2> dL_dx, Array<T, 1> dL_dparams, Array<T, 2> dL_dmodulation,
         Array<T, 1> scratch, bool needs_x, bool needs_params, bool needs_modulation) {
        cpu::fused_mlp_backward<T>(
            make_shape(shape), x.data(), params.data(), y.data(), saved.data(), dL_dy.data(), x.shape(0),
            needs_x ? dL_dx.data() : nullptr, needs_params ? dL_dparams.data() : nullptr, scratch.data(),
            modulation ? modulation->data() : nullptr, needs_modulation ? dL_dmodulation.data() : nullptr);
      },
      nb::arg("shape"), nb::arg("x").noconvert(), nb::arg("params").noconvert(),
      nb::arg("modulation").noconvert().none(), nb::arg("y").noconvert(), nb::arg("saved").noconvert(),
      nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(), nb::arg("dL_dparams").noconvert(),
      nb::arg("dL_dmodulation").noconvert(), nb::arg("scratch").noconvert(), nb::arg("needs_x"),
      nb::arg("needs_params"), nb::arg("needs_modulation"), ReleaseGil());
}

}  // namespace

void bind_fused_mlp(nb::module_& m) {
  m.def(
      "fused_mlp_sizes",
      [](const ShapeTuple& shape, int64_t n) {
        const cpu::MlpShape s = make_shape(shape);
        return std::make_tuple(n * s.saved_per_sample(), s.forward_scratch(), s.backward_scratch(n));
      },
      nb::arg("shape"), nb::arg("n"),
      "Values that forward keeps for backward, and values of scratch of forward and backward.");
  m.def("measure_fma_peak", &cpu::measure_fma_peak, nb::arg("seconds"), ReleaseGil());
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
