// SPDX-License-Identifier: Apache-2.0
// Compositing of the samples of one ray (Max 1995), front to back, one sample per call:
//   tau_s = sigma_s delta_s,  alpha_s = 1 - e^-tau_s,  T_1 = 1,  T_(s+1) = T_s (1 - alpha_s),  w_s = T_s alpha_s,
//   C = sum w_s c_s,  D = sum w_s t_s,  O = sum w_s = 1 - T_(S+1),
//   distortion = sum_ij w_i w_j |m_i - m_j| + 1/3 sum w_s^2 delta_s   (Barron et al. 2022, eq. 15; m: midpoints).
// A background b is added outside: C + (1 - O) b. A ray may be cut once T is small: what lies behind does not exist,
// in the forward and in the backward pass, so that gradients are those of the function that was computed.
// The opacities of many samples are computed first (SIMD), then a ray is walked; samples may lie in any layout.
#pragma once

#include <cmath>

#include "core/macros.h"
#include "math/exponential.h"

namespace nf {

constexpr float kEarlyStopTransmittance = 1e-4f;

// alpha = 1 - e^-tau for tau >= 0, without cancellation for small tau: float within 2 units of 2^-24, relative; inf
// gives 1, NaN stays NaN.
NF_HD double opacity(double tau) { return -::expm1(-tau); }
// With e^-tau = 2^n (1 + q), alpha = (1 - 2^n) - 2^n q, where 1 - 2^n is exact or rounds to 1.
template <typename V>
NF_HD V opacity_float(V tau) {
  const auto c = [tau](float v) { return detail::broadcast(v, tau); };
  decltype(detail::round_to_int(tau)) n;
  const V q = exponential_parts(-detail::select(tau > c(87.0f), c(87.0f), tau), &n);
  const V scale = detail::power_of_two(n);
  return (c(1.0f) - scale) - scale * q;
}
NF_HD float opacity(float tau) { return opacity_float(tau); }
#ifndef __CUDACC__
NF_HD vf opacity(vf tau) { return opacity_float(tau); }
#endif

// Forward walk along one ray.
template <typename T>
struct CompositeForward {
  T trans = T(1);  // transmittance in front of the next sample
  T r = T(0), g = T(0), b = T(0), depth = T(0), acc = T(0);

  // Adds one sample at distance t and returns its weight.
  NF_HD T add(T alpha, T sample_r, T sample_g, T sample_b, T t) {
    const T weight = trans * alpha;
    r = madd(weight, sample_r, r);
    g = madd(weight, sample_g, g);
    b = madd(weight, sample_b, b);
    depth = madd(weight, t, depth);
    acc += weight;
    trans *= T(1) - alpha;
    return weight;
  }
  // True when the samples behind may be dropped; never with stop_trans = 0.
  NF_HD bool is_opaque(T stop_trans) const { return trans < stop_trans; }
};

// Backward walk, also front to back and with nothing stored per sample. Let v_s be dL/dw_s at fixed transmittance,
//   v_s = dL/dC . c_s + dL/dD t_s + dL/dO + (dL/dw_s given directly),   dL/dC: with a background, dL/dO holds -dL/dC .
//   b;
// then dL/dtau_s = v_s T_(s+1) - sum_(j>s) w_j v_j. The walk starts with the sum over all samples, which the forward's
// results give: dL/dC . C + dL/dD D + dL/dO O + ...; dL/dsigma = delta dL/dtau, dL/ddelta = sigma dL/dtau,
// dL/dc_s = w_s dL/dC.
template <typename T>
struct CompositeBackward {
  T suffix;        // sum of w_j v_j over the samples not walked yet
  T trans = T(1);  // transmittance in front of the next sample

  NF_HD explicit CompositeBackward(T total) : suffix(total) {}
  NF_HD T weight(T alpha) const { return trans * alpha; }
  // Steps over one sample of weight(alpha) and returns dL/dtau.
  NF_HD T add(T alpha, T v) {
    suffix -= trans * alpha * v;
    trans *= T(1) - alpha;
    return madd(v, trans, -suffix);
  }
  NF_HD bool is_opaque(T stop_trans) const { return trans < stop_trans; }
};

// dL/d(outputs of one ray): what every sample of it is differentiated with.
template <typename T>
struct CompositeUpstream {
  T r, g, b, depth, acc, distortion;

  // The sum over all samples that CompositeBackward starts with, but for weights that have a gradient of their own.
  NF_HD T total(const T* rgb, T ray_depth, T ray_acc, T ray_distortion) const {
    return r * rgb[0] + g * rgb[1] + b * rgb[2] + depth * ray_depth + acc * ray_acc +
           T(2) * distortion * ray_distortion;
  }
  // v_s: dL_dweight given directly, d_weight that of the distortion.
  NF_HD T of_weight(const T* c, T t_start, T dL_dweight, T d_weight) const {
    return r * c[0] + g * c[1] + b * c[2] + depth * t_start + acc + dL_dweight + distortion * d_weight;
  }
  NF_HD void to_color(T weight, T* dL_dc) const {
    dL_dc[0] = weight * r;
    dL_dc[1] = weight * g;
    dL_dc[2] = weight * b;
  }
  // d_midpoint: that of the distortion, whose midpoint moves by half of either end.
  NF_HD void to_interval(T sigma, T dL_dtau, T weight, T d_midpoint, T* dL_dt_start, T* dL_dt_end) const {
    const T dL_ddelta = sigma * dL_dtau + distortion * weight * weight / T(3);
    const T half = T(0.5) * distortion * d_midpoint;
    *dL_dt_start = depth * weight + half - dL_ddelta;
    *dL_dt_end = half + dL_ddelta;
  }
};

// Distortion of one ray; samples in increasing order of their midpoints. The lever, sum_(j<i) w_j (m_i - m_j), grows by
// W_(<i) per unit of distance, which keeps it free of the cancellation in m_i W - sum w_j m_j.
template <typename T>
struct DistortionForward {
  T value = T(0);
  T weight_before = T(0), lever = T(0), last = T(0);

  NF_HD void add(T weight, T midpoint, T delta) {
    lever = madd(weight_before, midpoint - last, lever);  // the first sample: weight_before is 0
    last = midpoint;
    value = madd(weight, madd(weight * delta, T(1) / T(3), T(2) * lever), value);
    weight_before += weight;
  }
};

// A run of consecutive samples as the distortion sees it: weight W, lever sum_j w_j (m_last - m_j), midpoint of the
// last. Runs combine in any grouping, which lets a warp scan a ray; all terms are positive.
template <typename T>
struct DistortionRun {
  T weight, lever, last;

  NF_HD DistortionRun then(const DistortionRun& behind) const {
    return {weight + behind.weight, madd(weight, behind.last - last, lever) + behind.lever, behind.last};
  }
};
// What a sample adds to the distortion; its lever is that of the run that ends with it.
template <typename T>
NF_HD T distortion_of(T weight, T lever, T delta) {
  return weight * madd(weight * delta, T(1) / T(3), T(2) * lever);
}

// d distortion / dw_i = 2 sum_j w_j |m_i - m_j| + 2/3 w_i delta_i; / dm_i = 2 w_i (W_(<i) - W_(>i)); /d delta_i = w_i^2
// / 3. The homogeneity sum_i w_i d/dw_i = 2 distortion gives the total that CompositeBackward starts with.
template <typename T>
struct DistortionBackward {
  T weight_behind;  // sum of the weights not walked yet
  T lever_behind;   // sum_(j not walked yet) w_j (m_j - last)
  T last;           // midpoint of the last sample; at the start that of the first
  T weight_before = T(0), lever = T(0);

  // The totals of a ray: sum w_j, sum w_j (m_j - m_1), m_1.
  NF_HD DistortionBackward(T total_weight, T total_lever, T first)
      : weight_behind(total_weight), lever_behind(total_lever), last(first) {}
  // Steps over one sample: its derivatives by weight and by midpoint.
  NF_HD void add(T weight, T midpoint, T delta, T* d_weight, T* d_midpoint) {
    const T step = midpoint - last;
    lever = madd(weight_before, step, lever);
    lever_behind = madd(-weight_behind, step, lever_behind);
    last = midpoint;
    weight_behind -= weight;
    *d_weight = T(2) * (lever + lever_behind) + T(2) / T(3) * weight * delta;
    *d_midpoint = T(2) * weight * (weight_before - weight_behind);
    weight_before += weight;
  }
};

// The same for one sample on its own, from the totals of the ray (as above) and the run that ends with the sample:
// sum_(j>i) w_j (m_j - m_i) = total_lever - total_weight (m_i - m_1) + lever_i.
template <typename T>
NF_HD void distortion_derivatives(const DistortionRun<T>& run, T total_weight, T total_lever, T first, T weight,
                                  T delta, T* d_weight, T* d_midpoint) {
  const T lever_behind = madd(-total_weight, run.last - first, total_lever) + run.lever;
  *d_weight = T(2) * (run.lever + lever_behind) + T(2) / T(3) * weight * delta;
  *d_midpoint = T(2) * weight * ((run.weight - weight) - (total_weight - run.weight));
}

}  // namespace nf
