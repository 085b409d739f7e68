// SPDX-License-Identifier: Apache-2.0
#include "ops/visible.h"

#include "bindings/common.h"

namespace nf {

void bind_visible(nb::module_& m) {
  m.def(
      "visible_samples",
      [](Array<const float, 1> sigmas, Array<const float, 1> marched_starts, Array<const float, 1> marched_ends,
         Array<const int64_t, 2> marched_info, Array<const int64_t, 1> marched_counts, float stop_trans,
         Array<int64_t, 2> packed_info, Array<int64_t, 1> ray_indices, Array<float, 1> t_starts, Array<float, 1> t_ends,
         Array<int64_t, 1> counts, Array<uint8_t, 1> scratch) {
        const backend::PackedSamples<float> samples{sigmas.data(),
                                                    nullptr,
                                                    marched_starts.data(),
                                                    marched_ends.data(),
                                                    marched_info.data(),
                                                    static_cast<int64_t>(sigmas.shape(0)),
                                                    static_cast<int64_t>(marched_info.shape(0)),
                                                    stop_trans};
        const backend::PackedOutput out{static_cast<int64_t>(t_starts.shape(0)),
                                        packed_info.data(),
                                        ray_indices.data(),
                                        t_starts.data(),
                                        t_ends.data(),
                                        counts.data()};
        backend::visible_samples(samples, marched_counts.data(), out, scratch.data());
      },
      nb::arg("sigmas").noconvert(), nb::arg("marched_starts").noconvert(), nb::arg("marched_ends").noconvert(),
      nb::arg("marched_info").noconvert(), nb::arg("marched_counts").noconvert(), nb::arg("stop_trans"),
      nb::arg("packed_info").noconvert(), nb::arg("ray_indices").noconvert(), nb::arg("t_starts").noconvert(),
      nb::arg("t_ends").noconvert(), nb::arg("counts").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def("visible_scratch_bytes", &backend::visible_scratch_bytes, nb::arg("n_rays"));
}

}  // namespace nf
