// SPDX-License-Identifier: Apache-2.0
// The native module. It is built once per instruction set (NF_MODULE_NAME); neurfield/_native picks one at import. The
// other bindings are compiled once for all of them: what depends on the instruction set is told here.
#include "bindings/common.h"
#include "core/buffer_pool.h"
#include "core/cpu_features.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/mlp_tile.h"

namespace nf {

void bind_aabb(nb::module_& m);
void bind_camera(nb::module_& m);
void bind_carve(nb::module_& m);
void bind_composite(nb::module_& m);
void bind_depth_fusion(nb::module_& m);
void bind_fourier_features(nb::module_& m);
void bind_frequency(nb::module_& m);
void bind_gates(nb::module_& m);
void bind_hash_grid(nb::module_& m);
void bind_kilo_grid(nb::module_& m);
void bind_kilo_mlp(nb::module_& m);
void bind_kilo_render(nb::module_& m);
void bind_kilo_visible(nb::module_& m);
void bind_march(nb::module_& m);
void bind_mesh_distance(nb::module_& m);
void bind_mesh_tree(nb::module_& m);
void bind_modulation(nb::module_& m);
void bind_occupancy(nb::module_& m);
void bind_pixel(nb::module_& m);
void bind_fused_mlp(nb::module_& m);
void bind_spherical_harmonics(nb::module_& m);
void bind_trunc_exp(nb::module_& m);
void bind_visible(nb::module_& m);
void bind_wavelet(nb::module_& m);
void bind_adam(nb::module_& m);
void bind_fused_radiance(nb::module_& m);
void bind_fused_render(nb::module_& m);

// Instruction sets of this machine among those that modules are built for, best first. What is asked for here is what
// CMakeLists.txt compiles with.
static nb::list supported_isas() {
  nb::list isas;
  const CpuFeatures cpu = cpu_features();
  if (cpu.avx512) isas.append("avx512");
  if (cpu.avx2) isas.append("avx2");
  isas.append("baseline");
  return isas;
}

// A tensor of bytes whose memory goes back to the pool with its storage.
static nb::ndarray<nb::pytorch, uint8_t, nb::ndim<1>> pooled_bytes(size_t n) {
  void* data = acquire_buffer(n);
  return {data, {n}, nb::capsule(data, [](void* p) noexcept { release_buffer(p); })};
}

}  // namespace nf

NB_MODULE(NF_MODULE_NAME, m) {
  m.def("supported_isas", &nf::supported_isas);
  m.def("set_num_threads", &nf::set_num_threads);
  m.def("num_threads", &nf::num_threads);
  m.def("pooled_bytes", &nf::pooled_bytes, nf::nb::arg("n"));
  m.def("idle_buffer_bytes", &nf::idle_buffer_bytes);
  m.attr("simd_lanes") = nf::kLanes;
  m.attr("has_bf16_products") = nf::cpu::bf16_products();
  nf::bind_aabb(m);
  nf::bind_camera(m);
  nf::bind_carve(m);
  nf::bind_composite(m);
  nf::bind_depth_fusion(m);
  nf::bind_fourier_features(m);
  nf::bind_frequency(m);
  nf::bind_gates(m);
  nf::bind_hash_grid(m);
  nf::bind_kilo_grid(m);
  nf::bind_kilo_mlp(m);
  nf::bind_kilo_render(m);
  nf::bind_kilo_visible(m);
  nf::bind_march(m);
  nf::bind_mesh_distance(m);
  nf::bind_mesh_tree(m);
  nf::bind_modulation(m);
  nf::bind_occupancy(m);
  nf::bind_pixel(m);
  nf::bind_fused_mlp(m);
  nf::bind_spherical_harmonics(m);
  nf::bind_trunc_exp(m);
  nf::bind_visible(m);
  nf::bind_wavelet(m);
  nf::bind_adam(m);
  nf::bind_fused_radiance(m);
  nf::bind_fused_render(m);
}
