// SPDX-License-Identifier: Apache-2.0
#include "ops/fourier_features.h"

#include <nanobind/stl/optional.h>

#include "bindings/common.h"

namespace nf {

template <typename T>
using Gates = std::optional<Array<const T, 2>>;

template <typename T>
static backend::FourierSizes sizes_of(const Array<const T, 2>& frequencies, const Gates<T>& gates) {
  return {static_cast<int>(frequencies.shape(0)), static_cast<int>(frequencies.shape(1)),
          gates ? static_cast<int>(gates->shape(1)) : 0};
}

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "fourier_features_forward",
      [](Array<const T, 2> x, Array<const T, 2> frequencies, Gates<T> gates, Array<T, 2> y) {
        backend::fourier_features_forward<T>(sizes_of<T>(frequencies, gates), x.data(), frequencies.data(),
                                             gates ? gates->data() : nullptr, x.shape(0), y.data());
      },
      nb::arg("x").noconvert(), nb::arg("frequencies").noconvert(), nb::arg("gates").noconvert().none(),
      nb::arg("y").noconvert(), ReleaseGil());
  m.def(
      "fourier_features_backward",
      [](Array<const T, 2> x, Array<const T, 2> frequencies, Gates<T> gates, Array<const T, 2> dL_dy,
         Array<T, 2> dL_dx) {
        expect_size("fourier_features_backward: grad_y", 2 * static_cast<int64_t>(x.shape(0) * frequencies.shape(1)),
                    dL_dy.size());
        backend::fourier_features_backward<T>(sizes_of<T>(frequencies, gates), x.data(), frequencies.data(),
                                              gates ? gates->data() : nullptr, dL_dy.data(), x.shape(0), dL_dx.data());
      },
      nb::arg("x").noconvert(), nb::arg("frequencies").noconvert(), nb::arg("gates").noconvert().none(),
      nb::arg("dL_dy").noconvert(), nb::arg("dL_dx").noconvert(), ReleaseGil());
}

void bind_fourier_features(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
