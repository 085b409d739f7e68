// SPDX-License-Identifier: Apache-2.0
// What every binding shares. A binding is compiled for the CPU and, where csrc/cuda has its stem, for CUDA (NF_CUDA):
// `backend` is the one being built. Arrays arrive as C-contiguous views on its device (any DLPack producer); the Python
// layer (neurfield/ops) has checked shapes and allocated the outputs, a wrong dtype or device is a TypeError here.
// Every call releases the GIL while it computes; a CUDA call only launches kernels, on the stream that was named last.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "core/macros.h"
#ifdef NF_CUDA
#include "cuda/stream.h"
#endif

namespace nf {

namespace nb = nanobind;
namespace NF_BACKEND {}
namespace backend = NF_BACKEND;

#if defined(NF_CUDA) && !defined(NF_CUDA_ON_HOST)  // the tests run CUDA's kernels on the host
using Device = nb::device::cuda;
using ReleaseGil = nb::call_guard<nb::gil_scoped_release, cuda::UseDevice>;
#else
using Device = nb::device::cpu;
using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;
#endif

template <typename T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, Device>;

template <typename A>
auto optional_data(const A& array) -> decltype(array.data()) {
  return array.is_valid() ? array.data() : nullptr;
}

}  // namespace nf
