// SPDX-License-Identifier: Apache-2.0
// Lanes are frequencies, of as many values of x as fill them; sines and cosines leave interleaved.
#include "ops/frequency.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/tile_memory.h"
#include "math/fourier_features.h"
#include "math/frequency.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 512;

// Calls body(begin, count, turns, memory) for ranges of values of x: sines and cosines are those of turns [count *
// n_frequencies], of which, as of as much more memory, whole vectors may be used.
template <typename Body>
void for_turns(const float* x, int64_t n, int n_frequencies, const Body& body) {
  parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
    thread_local ThreadMemory memory;
    const int64_t size = kGrain * n_frequencies + kLanes;
    float *turns = memory.at_least<float>(2 * size), *to = turns;  // 2^k pi x is 2^(k - 1) x turns, exactly
    for (int64_t i = begin; i < end; ++i) {
      float scaled = x[i] * 0.5f;
      for (int k = 0; k < n_frequencies; ++k, scaled *= 2) *to++ = scaled;
    }
    std::fill_n(to, kLanes, 0.0f);
    body(begin, end - begin, turns, turns + size);
  });
}

void forward(const float* x, float* y, int64_t n, int n_frequencies) {
  for_turns(x, n, n_frequencies, [&](int64_t begin, int64_t count, const float* turns, float*) {
    float* out = y + begin * 2 * n_frequencies;
    for (int64_t left = count * n_frequencies; left > 0; left -= kLanes, turns += kLanes, out += 2 * kLanes) {
      vf s, c;
      sine_cosine_turns(load(turns), float(kTwoPi), &s, &c);
      if (left >= kLanes) {
        store_interleaved(out, s, c);
        continue;
      }
      float last[2 * kLanes];
      store_interleaved(last, s, c);
      std::copy_n(last, 2 * left, out);
    }
  });
}
void forward(const double* x, double* y, int64_t n, int n_frequencies) {
  parallel_for(n, FrequencyForward<double>{x, y, n_frequencies}, kGrain);
}

void backward(const float* x, const float* dL_dy, float* dL_dx, int64_t n, int n_frequencies) {
  for_turns(x, n, n_frequencies, [&](int64_t begin, int64_t count, const float* turns, float* slopes) {
    const float* grad = dL_dy + begin * 2 * n_frequencies;
    const int64_t n_slopes = count * n_frequencies;
    for (int64_t p = 0; p < n_slopes; p += kLanes) {
      float last[2 * kLanes] = {};
      const bool whole = n_slopes - p >= kLanes;
      if (!whole) std::copy_n(grad + 2 * p, 2 * (n_slopes - p), last);
      vf grad_sine, grad_cosine;
      load_interleaved(whole ? grad + 2 * p : last, &grad_sine, &grad_cosine);
      store(slopes + p, fourier_slope<vf, float>(load(turns + p), splat(1.0f), grad_sine, grad_cosine));
    }
    for (int64_t i = 0; i < count; ++i) {
      float sum = 0, frequency = 0.5f;  // turns of a unit of x
      for (int k = 0; k < n_frequencies; ++k, frequency *= 2) sum = madd(frequency, *slopes++, sum);
      dL_dx[begin + i] = sum;
    }
  });
}
void backward(const double* x, const double* dL_dy, double* dL_dx, int64_t n, int n_frequencies) {
  parallel_for(n, FrequencyBackward<double>{x, dL_dy, dL_dx, n_frequencies}, kGrain);
}

}  // namespace

template <typename T>
void frequency_forward(const T* x, T* y, int64_t n, int n_frequencies) {
  forward(x, y, n, n_frequencies);
}
template <typename T>
void frequency_backward(const T* x, const T* dL_dy, T* dL_dx, int64_t n, int n_frequencies) {
  backward(x, dL_dy, dL_dx, n, n_frequencies);
}

#define NF_INSTANTIATE(T)                                      \
  template void frequency_forward(const T*, T*, int64_t, int); \
  template void frequency_backward(const T*, const T*, T*, int64_t, int);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
