// SPDX-License-Identifier: Apache-2.0
#include "cpu/pixel.h"

#include "core/parallel.h"

namespace nf::cpu {

template <typename Value>
void sample_pixels(const SamplePixels<Value>& sample, int64_t n) {
  parallel_for(n, sample, 1024);
}

template void sample_pixels(const SamplePixels<uint8_t>&, int64_t);
template void sample_pixels(const SamplePixels<float>&, int64_t);

}  // namespace nf::cpu
