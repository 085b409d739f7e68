// SPDX-License-Identifier: Apache-2.0
// Which samples of a ray are seen: those with a weight (math/composite.h). Behind the last of them nothing of a ray has
// to be evaluated.
#pragma once

#include "core/macros.h"

namespace nf {

// NaN counts as a weight: what learns from the sample must notice it.
template <typename T>
NF_HD bool has_weight(T weight) {
  return !(weight <= T(0));
}

// Front to back along one ray, with the transmittance of CompositeForward.
template <typename T>
struct VisibleWalk {
  T trans = T(1);  // in front of the next sample

  // Steps over one sample; whether it is seen.
  NF_HD bool add(T alpha) {
    const bool is_seen = has_weight(trans * alpha);
    trans *= T(1) - alpha;
    return is_seen;
  }
  NF_HD bool is_opaque(T stop_trans) const { return trans < stop_trans; }
};

}  // namespace nf
