// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/pixel.h"

namespace nf::NF_BACKEND {

template <typename Value>
void sample_pixels(const SamplePixels<Value>& sample, int64_t n);
void over_background(const OverBackground& over, int64_t n);

}  // namespace nf::NF_BACKEND
