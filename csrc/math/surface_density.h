// SPDX-License-Identifier: Apache-2.0
// Density of a surface that is given by its signed distance f (VolSDF, Yariv et al. 2021, equations 2 and 3): with the
// cumulative distribution function of Laplace's distribution, of mean 0 and scale beta,
//   sigma = alpha e^(-f/beta) / 2            outside (f > 0)
//   sigma = alpha (1 - e^(f/beta) / 2)       inside
// and dsigma/df = -alpha e^(-|f|/beta) / (2 beta) everywhere. What a network adds is scaled and starts near 0, so that
// training begins with a sphere. There is a surface within reach of the middle; what is behind has no distance.
#pragma once

#include "core/macros.h"
#include "core/scalar.h"
#include "math/exponential.h"
#include "math/trunc_exp.h"

namespace nf {

struct SurfaceDensity {
  float beta;    // in unit space; 0: no surface, the density is e^h
  float radius;  // of the sphere that h = 0 is
  float scale;   // distance = scale h + |x - middle| - radius
  float alpha;   // the density deep inside
  float reach;   // of the surface, from the middle: what is farther away has the density e^h
  float side;    // of the box, whose middle is that of the sphere; positions are in its unit cube

  NF_HD bool is_surface() const { return beta > 0; }
  NF_HD float from_middle(float x, float y, float z) const {
    const float dx = x - 0.5f, dy = y - 0.5f, dz = z - 0.5f;
    return side * root_of(dx * dx + dy * dy + dz * dz);
  }
  NF_HD float distance(float h, float r) const { return madd(scale, h, r - radius); }
  // alpha e^(-|f|/beta) / 2
  NF_HD float tail(float f) const { return exponential(-::fabsf(f) / beta) * (0.5f * alpha); }
  NF_HD float density(float h, float x, float y, float z) const {
    const float r = from_middle(x, y, z);
    if (r > reach) return exponential(h);
    const float f = distance(h, r);
    return f > 0 ? tail(f) : alpha - tail(f);
  }
  // dsigma/dh
  NF_HD float derivative(float h, float x, float y, float z) const {
    const float r = from_middle(x, y, z);
    return r > reach ? trunc_exp_derivative(h) : -scale / beta * tail(distance(h, r));
  }
};

}  // namespace nf
