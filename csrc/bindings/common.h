// SPDX-License-Identifier: Apache-2.0
// What every binding shares. Arrays arrive as C-contiguous CPU views (any DLPack producer); the Python layer
// (neurfield/ops) has checked shapes and allocated the outputs, a wrong dtype or device is a TypeError here.
// Every call releases the GIL while it computes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nf {

namespace nb = nanobind;

template <typename T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

using ReleaseGil = nb::call_guard<nb::gil_scoped_release>;

template <typename A>
auto optional_data(const A& array) -> decltype(array.data()) {
  return array.is_valid() ? array.data() : nullptr;
}

}  // namespace nf
