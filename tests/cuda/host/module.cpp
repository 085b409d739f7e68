// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels on the host (cuda_runtime.h beside this), with the functions of the CUDA module over CPU arrays.
#include "bindings/common.h"

namespace nf {
#define NF_STEM(stem) void bind_##stem(nb::module_& m);
#include "stems.h"
#undef NF_STEM
}  // namespace nf

NB_MODULE(_cuda_on_host, m) {
#define NF_STEM(stem) nf::bind_##stem(m);
#include "stems.h"
#undef NF_STEM
}
