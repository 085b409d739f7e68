// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.h"
#include "ops/pixel.h"

namespace nf::cuda {

template <typename Value>
void sample_pixels(const SamplePixels<Value>& sample, int64_t n) {
  for_each("sample_pixels", n, sample);
}

void over_background(const OverBackground& over, int64_t n) { for_each("over_background", n, over); }

template void sample_pixels(const SamplePixels<uint8_t>&, int64_t);
template void sample_pixels(const SamplePixels<float>&, int64_t);

}  // namespace nf::cuda
