// SPDX-License-Identifier: Apache-2.0
// Density of a surface that is given by its signed distance f (VolSDF, Yariv et al. 2021, equations 2 and 3): with the
// cumulative distribution function of Laplace's distribution, of mean 0 and scale beta,
//   sigma = 1/beta e^(-f/beta) / 2            outside (f > 0)
//   sigma = 1/beta (1 - e^(f/beta) / 2)       inside
// and dsigma/df = -e^(-|f|/beta) / (2 beta^2) everywhere. What a network adds is scaled and starts near 0, so that
// training begins with a sphere.
#pragma once

#include "core/macros.h"
#include "core/scalar.h"
#include "math/exponential.h"

namespace nf {

struct SurfaceDensity {
  float beta;    // in unit space; 0: no surface, the density is e^h
  float radius;  // of the sphere that h = 0 is
  float scale;   // distance = scale h + |x - middle| - radius
  float side;    // of the box, whose middle is that of the sphere; positions are in its unit cube

  NF_HD bool is_surface() const { return beta > 0; }
  NF_HD float distance(float h, float x, float y, float z) const {
    const float dx = x - 0.5f, dy = y - 0.5f, dz = z - 0.5f;
    return madd(scale, h, side * root_of(dx * dx + dy * dy + dz * dz) - radius);
  }
  // e^(-|f|/beta) / (2 beta)
  NF_HD float tail(float f) const { return exponential(-::fabsf(f) / beta) * (0.5f / beta); }
  NF_HD float density(float f) const { return f > 0 ? tail(f) : 1.0f / beta - tail(f); }
  // dsigma/dh
  NF_HD float derivative(float f) const { return -scale / beta * tail(f); }
};

}  // namespace nf
