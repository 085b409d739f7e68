// SPDX-License-Identifier: Apache-2.0
#include "ops/wavelet.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static void bind(nb::module_& m) {
  m.def(
      "wavelet_forward",
      [](Array<const T, 2> u, double omega, double scale, Array<T, 2> h) {
        expect_size("wavelet_forward: h", u.size(), h.size());
        backend::wavelet_forward(u.data(), omega, scale, h.data(), u.shape(0), u.shape(1) / 2);
      },
      nb::arg("u").noconvert(), nb::arg("omega"), nb::arg("scale"), nb::arg("h").noconvert(), ReleaseGil());
  m.def(
      "wavelet_backward",
      [](Array<const T, 2> u, Array<const T, 2> h, Array<const T, 2> dL_dh, double omega, double scale,
         Array<T, 2> dL_du) {
        expect_size("wavelet_backward: h", u.size(), h.size());
        expect_size("wavelet_backward: grad_h", u.size(), dL_dh.size());
        expect_size("wavelet_backward: grad_u", u.size(), dL_du.size());
        backend::wavelet_backward(u.data(), h.data(), dL_dh.data(), omega, scale, dL_du.data(), u.shape(0),
                                  u.shape(1) / 2);
      },
      nb::arg("u").noconvert(), nb::arg("h").noconvert(), nb::arg("dL_dh").noconvert(), nb::arg("omega"),
      nb::arg("scale"), nb::arg("dL_du").noconvert(), ReleaseGil());
}

void bind_wavelet(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
