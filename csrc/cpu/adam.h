// SPDX-License-Identifier: Apache-2.0
// AdamStep is prepared once, then runs on any ranges from any threads; ranges of a table can follow their scatter while
// the gradient is in cache.
#pragma once

#include <vector>

#include "ops/adam.h"

namespace nf::cpu {

template <typename T>
class AdamStep {
 public:
  AdamStep(const AdamConfig& config, int64_t step, bool own_steps);
  void operator()(const AdamArrays<T>& arrays, int64_t n) const;

 private:
  AdamUpdate<T> update_;
  bool skip_zero_, zero_grad_;
  std::vector<T> rates_;  // adam_rate by count, up to where it no longer changes; one entry without own_steps
};

}  // namespace nf::cpu
