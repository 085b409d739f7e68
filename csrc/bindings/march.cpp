// SPDX-License-Identifier: Apache-2.0
#include "ops/march.h"

#include "bindings/common.h"
#include "bindings/occupancy.h"

namespace nf {

void bind_march(nb::module_& m) {
  m.def(
      "march",
      [](Array<const float, 2> origins, Array<const float, 2> directions, Array<const uint8_t, 2> bitfield,
         Array<const uint8_t, 2> coarse, float step_scale, float cone_angle, float near, float far, int max_samples,
         bool jitter, int64_t seed, int64_t step, Array<int64_t, 2> packed_info, Array<int64_t, 1> ray_indices,
         Array<float, 1> t_starts, Array<float, 1> t_ends, Array<int64_t, 1> counts, bool is_padded,
         Array<uint8_t, 1> scratch) {
        const uint64_t stream = random_stream(static_cast<uint64_t>(seed), static_cast<uint64_t>(step), kMarchStream);
        const backend::PackedOutput out{static_cast<int64_t>(t_starts.shape(0)),
                                        packed_info.data(),
                                        ray_indices.data(),
                                        t_starts.data(),
                                        t_ends.data(),
                                        counts.data()};
        backend::march(occupancy_view(bitfield, coarse), StepLattice::make(step_scale, cone_angle),
                       {near, far, max_samples, jitter, stream}, origins.data(), directions.data(), origins.shape(0),
                       out, is_padded, scratch.data());
      },
      nb::arg("origins").noconvert(), nb::arg("directions").noconvert(), nb::arg("bitfield").noconvert(),
      nb::arg("coarse").noconvert(), nb::arg("step_scale"), nb::arg("cone_angle"), nb::arg("near"), nb::arg("far"),
      nb::arg("max_samples"), nb::arg("jitter"), nb::arg("seed"), nb::arg("step"), nb::arg("packed_info").noconvert(),
      nb::arg("ray_indices").noconvert(), nb::arg("t_starts").noconvert(), nb::arg("t_ends").noconvert(),
      nb::arg("counts").noconvert(), nb::arg("is_padded"), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def("march_scratch_bytes", &backend::march_scratch_bytes, nb::arg("n_rays"));
}

}  // namespace nf
