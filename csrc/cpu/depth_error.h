// SPDX-License-Identifier: Apache-2.0
// How far the light of a ray comes from where a depth map says that it does: 1 - sum w_s k(t_s / D), with the
// weights w_s of its samples at distances t_s, the known distance D and k(r) = max(0, 1 - |r - 1| / kDepthTolerance).
// That is the mean, over where the light comes from, of the error of the distance relative to the known one, in units
// of kDepthTolerance and at most 1; light from nowhere has the error 1. Unlike the error of the mean distance it is 0
// only where all light comes from the right place, and no outlier of the map weighs more than 1.
#pragma once

namespace nf::cpu {

// With a wider one the loss, which is least where all light comes from one sample, takes detail from the colours; with
// a narrower one the noise of depth cameras, some per cent, hides what they see. docs/training.md has the figures.
constexpr float kDepthTolerance = 0.05f;

// k of a sample at `ratio` times the known distance.
inline float depth_agreement(float ratio) {
  const float error = (ratio < 1 ? 1 - ratio : ratio - 1) * (1 / kDepthTolerance);
  return error < 1 ? 1 - error : 0;
}

}  // namespace nf::cpu
