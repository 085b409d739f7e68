// SPDX-License-Identifier: Apache-2.0
// The native module of CUDA kernels: the bindings of the CPU modules, compiled for device arrays. neurfield/_native
// loads it when the first CUDA tensor arrives.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <string>
#include <utility>

#include "bindings/common.h"

namespace nf {

#define NF_STEM(stem) void bind_##stem(nb::module_& m);
#include "stems.h"
#undef NF_STEM

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
#define NF_STEM(stem) nf::bind_##stem(m);
#include "stems.h"
#undef NF_STEM
}
