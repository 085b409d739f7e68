// SPDX-License-Identifier: Apache-2.0
#include "bindings/occupancy.h"

#include "ops/occupancy.h"

namespace nf {

void bind_occupancy(nb::module_& m) {
  m.def(
      "occupancy_bits",
      [](Array<const float, 2> density_grid, Array<const float, 1> threshold, Array<uint8_t, 2> bitfield,
         Array<uint8_t, 2> coarse) {
        backend::occupancy_bits(density_grid.data(), threshold.data(), static_cast<int32_t>(density_grid.shape(0)),
                                log2_resolution(density_grid.shape(1)), bitfield.data(), coarse.data());
      },
      nb::arg("density_grid").noconvert(), nb::arg("threshold").noconvert(), nb::arg("bitfield").noconvert(),
      nb::arg("coarse").noconvert(), ReleaseGil());
  m.def(
      "occupancy_coarse",
      [](Array<const uint8_t, 2> bitfield, Array<uint8_t, 2> coarse) {
        backend::occupancy_coarse(bitfield.data(), static_cast<int32_t>(bitfield.shape(0)),
                                  log2_resolution(8 * bitfield.shape(1)), coarse.data());
      },
      nb::arg("bitfield").noconvert(), nb::arg("coarse").noconvert(), ReleaseGil());
  m.def(
      "occupancy_mean",
      [](Array<const float, 1> density_grid, Array<double, 1> mean, Array<uint8_t, 1> scratch) {
        backend::occupancy_mean(density_grid.data(), static_cast<int64_t>(density_grid.shape(0)), mean.data(),
                                scratch.data());
      },
      nb::arg("density_grid").noconvert(), nb::arg("mean").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def(
      "occupancy_select",
      [](Array<const float, 1> density_grid, float threshold, Array<int32_t, 1> cells, Array<int64_t, 1> n_selected,
         Array<uint8_t, 1> scratch) {
        backend::occupancy_select(density_grid.data(), threshold, static_cast<int64_t>(density_grid.shape(0)),
                                  cells.data(), n_selected.data(), scratch.data());
      },
      nb::arg("density_grid").noconvert(), nb::arg("threshold"), nb::arg("cells").noconvert(),
      nb::arg("n_selected").noconvert(), nb::arg("scratch").noconvert(), ReleaseGil());
  m.def("occupancy_scratch_bytes", &backend::occupancy_scratch_bytes, nb::arg("n"));
  m.def(
      "occupancy_draw",
      [](Array<const int32_t, 1> cells, Array<const int64_t, 1> n_cells, int resolution, int64_t seed, int64_t step,
         int dimension, Array<int64_t, 1> drawn, Array<float, 2> positions) {
        const uint64_t stream =
            random_stream(static_cast<uint64_t>(seed), static_cast<uint64_t>(step), kOccupancyStream);
        backend::occupancy_draw(cells.data(), n_cells.data(), static_cast<int64_t>(drawn.shape(0)),
                                __builtin_ctz(static_cast<unsigned>(resolution)), stream,
                                static_cast<uint32_t>(dimension), drawn.data(), positions.data());
      },
      nb::arg("cells").noconvert(), nb::arg("n_cells").noconvert(), nb::arg("resolution"), nb::arg("seed"),
      nb::arg("step"), nb::arg("dimension"), nb::arg("drawn").noconvert(), nb::arg("positions").noconvert(),
      ReleaseGil());
  m.def(
      "occupancy_update",
      [](Array<float, 2> density_grid, Array<const int64_t, 1> cells, Array<const float, 1> values, float decay) {
        backend::occupancy_update(density_grid.data(),
                                  static_cast<int64_t>(density_grid.shape(0) * density_grid.shape(1)), cells.data(),
                                  values.data(), static_cast<int64_t>(cells.shape(0)), decay);
      },
      nb::arg("density_grid").noconvert(), nb::arg("cells").noconvert(), nb::arg("values").noconvert(),
      nb::arg("decay"), ReleaseGil());
}

}  // namespace nf
