// SPDX-License-Identifier: Apache-2.0
// Lanes are frequencies: the components of kLanes frequencies are read in turn, sines and cosines leave interleaved.
#include "ops/fourier_features.h"

#include "core/parallel.h"
#include "core/simd.h"
#include "cpu/tile_memory.h"
#include "math/fourier_features.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 256;

int vector_frequencies(FourierSizes sizes) { return sizes.n_frequencies / kLanes * kLanes; }

vf turns_of(FourierSizes sizes, const float* x, const float* frequencies, int k) {
  return fourier_turns<float, vf>(x, sizes.n_dims,
                                  [&](int j) { return load(frequencies + j * sizes.n_frequencies + k); });
}

// One gate per frequency, and idle values up to a whole vector.
float* gate_buffer(FourierSizes sizes) {
  thread_local ThreadMemory memory;
  return memory.at_least<float>(sizes.n_frequencies);
}
void spread_gates(FourierSizes sizes, const float* gates, float* spread) {
  for (int k = 0; k < sizes.n_frequencies; ++k)
    spread[k] = gates ? gates[gate_of(k, sizes.n_frequencies, sizes.n_gates)] : 1.0f;
}

// Calls body(sample, its gates [n_frequencies]).
template <typename Body>
void for_samples(FourierSizes sizes, const float* gates, int64_t n, const Body& body) {
  parallel_ranges(n, kGrain, [&](int64_t begin, int64_t end) {
    float* spread = gate_buffer(sizes);
    spread_gates(sizes, nullptr, spread);
    for (int64_t i = begin; i < end; ++i) {
      if (gates) spread_gates(sizes, gates + i * sizes.n_gates, spread);
      body(i, spread);
    }
  });
}

void forward(FourierSizes sizes, const float* x, const float* frequencies, const float* gates, int64_t n, float* y) {
  const int m = sizes.n_frequencies, whole = vector_frequencies(sizes);
  for_samples(sizes, gates, n, [&](int64_t i, const float* gate) {
    const float* sample = x + i * sizes.n_dims;
    float* out = y + i * 2 * m;
    for (int k = 0; k < whole; k += kLanes) {
      vf s, c;
      sine_cosine_turns(turns_of(sizes, sample, frequencies, k), float(kTwoPi), &s, &c);
      const vf g = load(gate + k);
      store_interleaved(out + 2 * k, g * s, g * c);
    }
    for (int k = whole; k < m; ++k) {
      const float t = fourier_turns<float, float>(sample, sizes.n_dims, [&](int j) { return frequencies[j * m + k]; });
      float s, c;
      sine_cosine_turns(t, float(kTwoPi), &s, &c);
      out[2 * k] = gate[k] * s;
      out[2 * k + 1] = gate[k] * c;
    }
  });
}
void forward(FourierSizes s, const double* x, const double* frequencies, const double* gates, int64_t n, double* y) {
  parallel_for(n, FourierForward<double>{x, frequencies, gates, y, s.n_dims, s.n_frequencies, s.n_gates}, kGrain);
}

void backward(FourierSizes sizes, const float* x, const float* frequencies, const float* gates, const float* dL_dy,
              int64_t n, float* dL_dx) {
  const int m = sizes.n_frequencies, whole = vector_frequencies(sizes);
  for_samples(sizes, gates, n, [&](int64_t i, const float* gate) {
    const float *sample = x + i * sizes.n_dims, *grad = dL_dy + i * 2 * m;
    vf sums[kMaxFourierDims] = {};
    for (int k = 0; k < whole; k += kLanes) {
      vf grad_sine, grad_cosine;
      load_interleaved(grad + 2 * k, &grad_sine, &grad_cosine);
      const vf t = turns_of(sizes, sample, frequencies, k);
      const vf slope = fourier_slope<vf, float>(t, load(gate + k), grad_sine, grad_cosine);
      for (int j = 0; j < sizes.n_dims; ++j) sums[j] = madd(slope, load(frequencies + j * m + k), sums[j]);
    }
    float* out = dL_dx + i * sizes.n_dims;
    for (int j = 0; j < sizes.n_dims; ++j) out[j] = reduce_add(sums[j]);
    for (int k = whole; k < m; ++k) {
      const float t = fourier_turns<float, float>(sample, sizes.n_dims, [&](int j) { return frequencies[j * m + k]; });
      const float slope = fourier_slope<float, float>(t, gate[k], grad[2 * k], grad[2 * k + 1]);
      for (int j = 0; j < sizes.n_dims; ++j) out[j] = madd(slope, frequencies[j * m + k], out[j]);
    }
  });
}
void backward(FourierSizes s, const double* x, const double* frequencies, const double* gates, const double* dL_dy,
              int64_t n, double* dL_dx) {
  parallel_for(n, FourierBackward<double>{x, frequencies, gates, dL_dy, dL_dx, s.n_dims, s.n_frequencies, s.n_gates},
               kGrain);
}

}  // namespace

template <typename T>
void fourier_features_forward(FourierSizes sizes, const T* x, const T* frequencies, const T* gates, int64_t n, T* y) {
  forward(sizes, x, frequencies, gates, n, y);
}
template <typename T>
void fourier_features_backward(FourierSizes sizes, const T* x, const T* frequencies, const T* gates, const T* dL_dy,
                               int64_t n, T* dL_dx) {
  backward(sizes, x, frequencies, gates, dL_dy, n, dL_dx);
}

#define NF_INSTANTIATE(T)                                                                          \
  template void fourier_features_forward(FourierSizes, const T*, const T*, const T*, int64_t, T*); \
  template void fourier_features_backward(FourierSizes, const T*, const T*, const T*, const T*, int64_t, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
