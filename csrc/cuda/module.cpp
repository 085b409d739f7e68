// SPDX-License-Identifier: Apache-2.0
// The native module of CUDA kernels: the bindings of the CPU modules, compiled for device arrays. neurfield/_native
// loads it when the first CUDA tensor arrives.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <string>
#include <utility>

#include "bindings/common.h"

namespace nf {

void bind_aabb(nb::module_& m);
void bind_adam(nb::module_& m);
void bind_camera(nb::module_& m);
void bind_carve(nb::module_& m);
void bind_composite(nb::module_& m);
void bind_fourier_features(nb::module_& m);
void bind_frequency(nb::module_& m);
void bind_fused_mlp(nb::module_& m);
void bind_fused_render(nb::module_& m);
void bind_gates(nb::module_& m);
void bind_hash_grid(nb::module_& m);
void bind_kilo_grid(nb::module_& m);
void bind_kilo_mlp(nb::module_& m);
void bind_kilo_render(nb::module_& m);
void bind_march(nb::module_& m);
void bind_mesh_distance(nb::module_& m);
void bind_modulation(nb::module_& m);
void bind_occupancy(nb::module_& m);
void bind_pixel(nb::module_& m);
void bind_spherical_harmonics(nb::module_& m);
void bind_trunc_exp(nb::module_& m);

// How many devices there are and, without any, why.
static std::pair<int, std::string> devices() {
  const char* reason = "";
  const int n = cuda::device_count(&reason);
  return {n, reason};
}

}  // namespace nf

NB_MODULE(_cuda, m) {
  m.attr("toolkit") = NF_CUDA_TOOLKIT;      // version of nvcc
  m.attr("architectures") = NF_CUDA_ARCHS;  // what it compiled for: "90", "80 90"
  m.def("devices", &nf::devices);
  m.def("use", &nf::cuda::use, nf::nb::arg("device"), nf::nb::arg("stream"));
  nf::bind_aabb(m);
  nf::bind_adam(m);
  nf::bind_camera(m);
  nf::bind_carve(m);
  nf::bind_composite(m);
  nf::bind_fourier_features(m);
  nf::bind_frequency(m);
  nf::bind_fused_mlp(m);
  nf::bind_fused_render(m);
  nf::bind_gates(m);
  nf::bind_hash_grid(m);
  nf::bind_kilo_grid(m);
  nf::bind_kilo_mlp(m);
  nf::bind_kilo_render(m);
  nf::bind_march(m);
  nf::bind_mesh_distance(m);
  nf::bind_modulation(m);
  nf::bind_occupancy(m);
  nf::bind_pixel(m);
  nf::bind_spherical_harmonics(m);
  nf::bind_trunc_exp(m);
}
