// SPDX-License-Identifier: Apache-2.0
#include "ops/composite.h"

#include "bindings/common.h"

namespace nf {

template <typename T>
static backend::PackedSamples<T> packed_samples(const Array<const T, 1>& sigmas, const Array<const T, 2>& rgbs,
                                                const Array<const T, 1>& t_starts, const Array<const T, 1>& t_ends,
                                                const Array<const int64_t, 2>& packed_info, double stop) {
  return {sigmas.data(),
          rgbs.data(),
          t_starts.data(),
          t_ends.data(),
          packed_info.data(),
          int64_t(sigmas.shape(0)),
          int64_t(packed_info.shape(0)),
          T(stop)};
}

template <typename T>
static void bind(nb::module_& m) {
  using Values = Array<const T, 1>;
  using Colors = Array<const T, 2>;
  m.def(
      "composite_forward",
      [](Values sigmas, Colors rgbs, Values t_starts, Values t_ends, Array<const int64_t, 2> packed_info, double stop,
         Array<T, 2> rgb, Array<T, 1> depth, Array<T, 1> acc, Array<T, 1> weights, Array<T, 1> distortion) {
        const auto samples = packed_samples<T>(sigmas, rgbs, t_starts, t_ends, packed_info, stop);
        backend::composite_forward<T>(samples,
                                      {rgb.data(), depth.data(), acc.data(), weights.data(), distortion.data()});
      },
      nb::arg("sigmas").noconvert(), nb::arg("rgbs").noconvert(), nb::arg("t_starts").noconvert(),
      nb::arg("t_ends").noconvert(), nb::arg("packed_info").noconvert(), nb::arg("stop_trans"),
      nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(), nb::arg("acc").noconvert(),
      nb::arg("weights").noconvert(), nb::arg("distortion").noconvert(), ReleaseGil());
  m.def(
      "composite_backward",
      [](Values sigmas, Colors rgbs, Values t_starts, Values t_ends, Array<const int64_t, 2> packed_info, double stop,
         Colors rgb, Values depth, Values acc, Values weights, Values distortion, Colors dL_drgb, Values dL_ddepth,
         Values dL_dacc, Values dL_dweights, Values dL_ddistortion, Array<T, 1> dL_dsigmas, Array<T, 2> dL_drgbs,
         Array<T, 1> dL_dt_starts, Array<T, 1> dL_dt_ends) {
        const auto samples = packed_samples<T>(sigmas, rgbs, t_starts, t_ends, packed_info, stop);
        const auto check = [&](const char* what, int64_t n, const auto& value, const auto& gradient) {
          expect_size(what, n, value.size());
          if (gradient.data()) expect_size(what, n, gradient.size());
        };
        check("composite_backward: rgb", 3 * samples.n_rays, rgb, dL_drgb);
        check("composite_backward: depth", samples.n_rays, depth, dL_ddepth);
        check("composite_backward: acc", samples.n_rays, acc, dL_dacc);
        check("composite_backward: weights", samples.n_samples, weights, dL_dweights);
        check("composite_backward: distortion", samples.n_rays, distortion, dL_ddistortion);
        backend::composite_backward<T>(
            samples, {rgb.data(), depth.data(), acc.data(), weights.data(), distortion.data()},
            {dL_drgb.data(), dL_ddepth.data(), dL_dacc.data(), dL_dweights.data(), dL_ddistortion.data()},
            {dL_dsigmas.data(), dL_drgbs.data(), dL_dt_starts.data(), dL_dt_ends.data()});
      },
      nb::arg("sigmas").noconvert(), nb::arg("rgbs").noconvert(), nb::arg("t_starts").noconvert(),
      nb::arg("t_ends").noconvert(), nb::arg("packed_info").noconvert(), nb::arg("stop_trans"),
      nb::arg("rgb").noconvert(), nb::arg("depth").noconvert(), nb::arg("acc").noconvert(),
      nb::arg("weights").noconvert(), nb::arg("distortion").noconvert(), nb::arg("dL_drgb").noconvert().none(),
      nb::arg("dL_ddepth").noconvert().none(), nb::arg("dL_dacc").noconvert().none(),
      nb::arg("dL_dweights").noconvert().none(), nb::arg("dL_ddistortion").noconvert().none(),
      nb::arg("dL_dsigmas").noconvert(), nb::arg("dL_drgbs").noconvert(), nb::arg("dL_dt_starts").noconvert().none(),
      nb::arg("dL_dt_ends").noconvert().none(), ReleaseGil());
}

void bind_composite(nb::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

}  // namespace nf
