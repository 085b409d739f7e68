// SPDX-License-Identifier: Apache-2.0
// What every binding shares. A binding is compiled for the CPU and, where csrc/cuda has its stem, for CUDA (NF_CUDA):
// `backend` is the one being built. Arrays arrive as C-contiguous views on its device (array.h); the Python
// layer (neurfield/ops) has checked shapes and allocated the outputs, a wrong dtype or device is a TypeError here.
// Every call releases the GIL while it computes; a CUDA call only launches kernels, on the stream that was named last.
#pragma once

#include <stdexcept>
#include <string>

#include "bindings/array.h"
#include "core/macros.h"
#ifdef NF_CUDA
#include "cuda/stream.h"
#endif

namespace nf {

namespace NF_BACKEND {}
namespace backend = NF_BACKEND;

#if defined(NF_CUDA) && !defined(NF_CUDA_ON_HOST)
using ReleaseGil = nb::call_guard<nb::gil_scoped_release, cuda::UseDevice>;
#else
using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;
#endif

// For arrays that come to an operator from its forward pass, which nobody has checked on the way: a ValueError in
// Python.
inline void expect_size(const char* what, int64_t expected, int64_t found) {
  if (found != expected)
    throw std::invalid_argument(std::string(what) + " must hold " + std::to_string(expected) + " values, got " +
                                std::to_string(found));
}

}  // namespace nf
