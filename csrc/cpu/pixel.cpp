// SPDX-License-Identifier: Apache-2.0
#include "ops/pixel.h"

#include "core/parallel.h"

namespace nf::cpu {

template <typename Value>
void sample_pixels(const SamplePixels<Value>& sample, int64_t n) {
  // A random pixel is a cache miss: a group is picked first, and its misses overlap with the making of its rays.
  constexpr int64_t kGroup = 64;
  parallel_ranges(n, 1024, [&](int64_t begin, int64_t end) {
    PixelPick picks[kGroup];
    for (int64_t first = begin; first < end; first += kGroup) {
      const int64_t count = min(kGroup, end - first);
      for (int64_t i = 0; i < count; ++i) {
        picks[i] = sample.pick(static_cast<uint64_t>(first + i));
        __builtin_prefetch(sample.values_of(picks[i]));
      }
      for (int64_t i = 0; i < count; ++i) sample.write(first + i, picks[i]);
    }
  });
}

void over_background(const OverBackground& over, int64_t n) { parallel_for(n, over); }

template void sample_pixels(const SamplePixels<uint8_t>&, int64_t);
template void sample_pixels(const SamplePixels<float>&, int64_t);

}  // namespace nf::cpu
