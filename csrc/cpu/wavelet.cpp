// SPDX-License-Identifier: Apache-2.0
// Lanes are columns; the last vector of a row begins where it ends with the row, over what the one before has done.
#include "ops/wavelet.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/simd.h"
#include "math/wavelet.h"

namespace nf::cpu {
namespace {

constexpr int64_t kGrain = 4096;  // numbers of a task

template <typename T>
Wavelet<T> wavelet_of(double omega, double scale) {
  return {static_cast<T>(omega), static_cast<T>(scale * scale)};
}
Wavelet<vf> in_lanes(const Wavelet<float>& wavelet) { return {splat(wavelet.omega), splat(wavelet.square)}; }

// Calls vector(at) for vectors of real parts, or number(i) for all numbers where a row is shorter than one.
template <typename AtVector, typename Number>
void for_vectors(int64_t n, int64_t width, const AtVector& vector, const Number& number) {
  if (width < kLanes) return parallel_for(n * width, number, kGrain);
  parallel_ranges(n, std::max<int64_t>(1, kGrain / width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t k = 0; k < width; k += kLanes) vector(i * 2 * width + std::min(k, width - kLanes));
  });
}

void forward(const float* u, double omega, double scale, float* h, int64_t n, int64_t width) {
  const WaveletForward<float> number{u, h, width, wavelet_of<float>(omega, scale)};
  const Wavelet<vf> wavelet = in_lanes(number.wavelet);
  const auto vector = [&](int64_t at) {
    vf re, im;
    wavelet.forward(load(u + at), load(u + at + width), &re, &im);
    store(h + at, re);
    store(h + at + width, im);
  };
  for_vectors(n, width, vector, number);
}
void forward(const double* u, double omega, double scale, double* h, int64_t n, int64_t width) {
  parallel_for(n * width, WaveletForward<double>{u, h, width, wavelet_of<double>(omega, scale)}, kGrain);
}

void backward(const float* u, const float* h, const float* dL_dh, double omega, double scale, float* dL_du, int64_t n,
              int64_t width) {
  const WaveletBackward<float> number{u, h, dL_dh, dL_du, width, wavelet_of<float>(omega, scale)};
  const Wavelet<vf> wavelet = in_lanes(number.wavelet);
  const auto vector = [&](int64_t re) {
    const int64_t im = re + width;
    vf dL_da, dL_db;
    wavelet.backward(load(u + re), load(u + im), load(h + re), load(h + im), load(dL_dh + re), load(dL_dh + im), &dL_da,
                     &dL_db);
    store(dL_du + re, dL_da);
    store(dL_du + im, dL_db);
  };
  for_vectors(n, width, vector, number);
}
void backward(const double* u, const double* h, const double* dL_dh, double omega, double scale, double* dL_du,
              int64_t n, int64_t width) {
  parallel_for(n * width, WaveletBackward<double>{u, h, dL_dh, dL_du, width, wavelet_of<double>(omega, scale)}, kGrain);
}

}  // namespace

template <typename T>
void wavelet_forward(const T* u, double omega, double scale, T* h, int64_t n, int64_t width) {
  forward(u, omega, scale, h, n, width);
}
template <typename T>
void wavelet_backward(const T* u, const T* h, const T* dL_dh, double omega, double scale, T* dL_du, int64_t n,
                      int64_t width) {
  backward(u, h, dL_dh, omega, scale, dL_du, n, width);
}

#define NF_INSTANTIATE(T)                                                        \
  template void wavelet_forward(const T*, double, double, T*, int64_t, int64_t); \
  template void wavelet_backward(const T*, const T*, const T*, double, double, T*, int64_t, int64_t);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
