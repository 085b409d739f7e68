// SPDX-License-Identifier: Apache-2.0
// One Adam step over flat arrays in a single pass over memory.
#pragma once

#include <cstdint>

#include "core/half.h"
#include "math/adam.h"

namespace nf::NF_BACKEND {

// What a step works on, [n] each. `steps` and `copy` may be null.
template <typename T>
struct AdamArrays {
  T* params;       // masters
  T* grad;         // left zero when config.zero_grad
  T* exp_avg;      // first moment
  T* exp_avg_sq;   // second moment
  int16_t* steps;  // updates that each parameter has seen, at most kMaxOwnSteps; null: all have seen `step` - 1
  half* copy;      // receives the masters rounded to half
  AdamArrays from(int64_t offset) const;  // the same arrays from an element on
};

// `step` >= 1 is the number of this step; it is not used where arrays bring their own counts. `clock`, null or beside
// the arrays, holds the step and the learning rate as they are when the kernel runs, in place of those of the caller; a
// step below 1 leaves everything as it is.
template <typename T>
void adam_step(const AdamConfig& config, int64_t step, const double* clock, const AdamArrays<T>& arrays, int64_t n);

}  // namespace nf::NF_BACKEND
