// SPDX-License-Identifier: Apache-2.0
#include "ops/pixel.h"

#include <nanobind/stl/optional.h>

#include <optional>

#include "bindings/camera.h"

namespace nf {

template <typename Value>
static void bind(nb::module_& m) {
  m.def(
      "sample_pixels",
      [](Array<const Value, 2> values, std::optional<Array<const uint8_t, 1>> masks, Array<const int64_t, 1> starts,
         Array<const int64_t, 2> sizes, Array<const int64_t, 1> block_starts,
         std::optional<Array<const int32_t, 1>> listed, Array<const float, 3> c2w, Array<const float, 2> intrinsics,
         Array<const float, 2> distortion, Array<const int64_t, 1> models, int64_t seed, int64_t step,
         Array<float, 2> origins, Array<float, 2> directions, Array<float, 2> targets, Array<int32_t, 2> picks) {
        const PackedImages<Value> images{
            values.data(), masks ? masks->data() : nullptr,       starts.data(),
            sizes.data(),  static_cast<int64_t>(starts.shape(0)), static_cast<int32_t>(values.shape(1))};
        const PixelBlocks blocks{block_starts.data(), listed ? listed->data() : nullptr,
                                 listed ? static_cast<int64_t>(listed->shape(0)) : 0};
        const uint64_t stream = random_stream(static_cast<uint64_t>(seed), static_cast<uint64_t>(step), kPixelStream);
        backend::sample_pixels(
            SamplePixels<Value>{images, blocks, camera_views<float>(c2w, intrinsics, distortion, models), stream,
                                origins.data(), directions.data(), targets.data(), picks.data()},
            static_cast<int64_t>(origins.shape(0)));
      },
      nb::arg("values").noconvert(), nb::arg("masks").noconvert().none(), nb::arg("starts").noconvert(),
      nb::arg("sizes").noconvert(), nb::arg("block_starts").noconvert(), nb::arg("listed").noconvert().none(),
      nb::arg("c2w").noconvert(), nb::arg("intrinsics").noconvert(), nb::arg("distortion").noconvert(),
      nb::arg("models").noconvert(), nb::arg("seed"), nb::arg("step"), nb::arg("origins").noconvert(),
      nb::arg("directions").noconvert(), nb::arg("targets").noconvert(), nb::arg("picks").noconvert(), ReleaseGil());
}

void bind_pixel(nb::module_& m) {
  bind<uint8_t>(m);
  bind<float>(m);
  m.def(
      "over_background",
      [](Array<const float, 2> rgba, std::optional<Array<const float, 1>> color, int64_t seed, int64_t step,
         Array<float, 2> rgb, Array<float, 2> background) {
        const uint64_t stream =
            random_stream(static_cast<uint64_t>(seed), static_cast<uint64_t>(step), kBackgroundStream);
        backend::over_background({rgba.data(), color ? color->data() : nullptr, stream, rgb.data(), background.data()},
                                 static_cast<int64_t>(rgba.shape(0)));
      },
      nb::arg("rgba").noconvert(), nb::arg("color").noconvert().none(), nb::arg("seed"), nb::arg("step"),
      nb::arg("rgb").noconvert(), nb::arg("background").noconvert(), ReleaseGil());
}

}  // namespace nf
