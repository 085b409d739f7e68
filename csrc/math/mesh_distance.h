// SPDX-License-Identifier: Apache-2.0
// Distance to a triangle (Ericson, Real-Time Collision Detection, 2005, 5.1.5) and crossings of rays with triangles
// without leaks at shared edges (Woop, Benthin and Wald 2013): the edge functions of two triangles that share an edge
// are exact negatives of each other, because products commute and nothing is contracted. Boxes are tested
// conservatively. Distances are off by a few roundings of the coordinates.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

NF_HD float dot3(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Squared distance of p to the segment from a to b, which may be a point.
NF_HD float segment_distance_sq(const float* p, const float* a, const float* b) {
  float ab[3], ap[3];
  for (int k = 0; k < 3; ++k) {
    ab[k] = b[k] - a[k];
    ap[k] = p[k] - a[k];
  }
  const float length_sq = dot3(ab, ab);
  const float t = length_sq > 0 ? max(min(dot3(ab, ap) / length_sq, 1.f), 0.f) : 0.f;
  float sum = 0;
  for (int k = 0; k < 3; ++k) {
    const float d = ap[k] - t * ab[k];
    sum += d * d;
  }
  return sum;
}

// Squared distance of p to the triangle with corners t[0 ... 2], t[3 ... 5], t[6 ... 8]; may be a segment or a point.
NF_HD float triangle_distance_sq(const float* p, const float* t) {
  float ab[3], ac[3], ap[3], bp[3], cp[3];
  for (int k = 0; k < 3; ++k) {
    ab[k] = t[3 + k] - t[k];
    ac[k] = t[6 + k] - t[k];
    ap[k] = p[k] - t[k];
    bp[k] = p[k] - t[3 + k];
    cp[k] = p[k] - t[6 + k];
  }
  const float d1 = dot3(ab, ap), d2 = dot3(ac, ap);
  if (d1 <= 0 && d2 <= 0) return dot3(ap, ap);
  const float d3 = dot3(ab, bp), d4 = dot3(ac, bp);
  if (d3 >= 0 && d4 <= d3) return dot3(bp, bp);
  const float d5 = dot3(ab, cp), d6 = dot3(ac, cp);
  if (d6 >= 0 && d5 <= d6) return dot3(cp, cp);
  float v, w;  // the closest point is a + v ab + w ac
  float edges = INFINITY;
  const float va = d3 * d6 - d5 * d4, vb = d5 * d2 - d1 * d6, vc = d1 * d4 - d3 * d2;
  if (vc <= 0 && d1 >= 0 && d3 <= 0 && d1 > d3) {  // equal where a = b: another edge is as near
    v = d1 / (d1 - d3);
    w = 0;
  } else if (vb <= 0 && d2 >= 0 && d6 <= 0 && d2 > d6) {
    v = 0;
    w = d2 / (d2 - d6);
  } else if (va <= 0 && d4 >= d3 && d5 >= d6 && (d4 > d3 || d5 > d6)) {
    w = (d4 - d3) / ((d4 - d3) + (d5 - d6));
    v = 1 - w;
  } else {
    const float area = va + vb + vc;  // squared, of the parallelogram
    // Thin triangles: va, vb, vc are differences of products of this size and may be nothing but their rounding. Then
    // an edge is as near as the face, whose point counts only if it lies within.
    const float reach_sq = max(max(dot3(ap, ap), dot3(bp, bp)), dot3(cp, cp));
    if (!(area > 1e-6f * max(dot3(ab, ab), dot3(ac, ac)) * reach_sq)) {  // 8 roundings
      edges = min(segment_distance_sq(p, t, t + 3), segment_distance_sq(p, t + 3, t + 6));
      edges = min(edges, segment_distance_sq(p, t + 6, t));
      if (!(va > 0 && vb > 0 && vc > 0)) return edges;
    }
    v = vb / area;
    w = vc / area;
  }
  float sum = 0;
  for (int k = 0; k < 3; ++k) {
    const float d = ap[k] - v * ab[k] - w * ac[k];
    sum += d * d;
  }
  return min(sum, edges);
}

// Squared distance of p to a box (min x, y, z, max x, y, z), 0 inside.
NF_HD float box_distance_sq(const float* p, const float* box) {
  float sum = 0;
  for (int k = 0; k < 3; ++k) {
    const float below = box[k] - p[k], above = p[k] - box[k + 3];
    const float d = max(max(below, above), 0.f);
    sum += d * d;
  }
  return sum;
}

// A ray from p, prepared once: the axis along which it runs most comes last, the others are sheared away.
// Arrays are not indexed by `axes`: a GPU would keep them in memory, not in registers.
struct CrossingRay {
  float origin[3], inverse[3], shear[3];
  float start[3];  // the origin, in the order of axes
  int axes[3];

  NF_HD CrossingRay(const float* p, const float* direction) {
    axes[2] = 0;
    for (int k = 1; k < 3; ++k)
      if (::fabsf(direction[k]) > ::fabsf(direction[axes[2]])) axes[2] = k;
    axes[0] = (axes[2] + 1) % 3;
    axes[1] = (axes[2] + 2) % 3;
    if (direction[axes[2]] < 0) {
      const int swapped = axes[0];
      axes[0] = axes[1];
      axes[1] = swapped;
    }
    const float along = direction[axes[2]];
    shear[0] = direction[axes[0]] / along;
    shear[1] = direction[axes[1]] / along;
    shear[2] = 1 / along;
    for (int k = 0; k < 3; ++k) {
      origin[k] = p[k];
      // not infinite: 0 * inf would be NaN where the origin lies in the plane of a box's side
      inverse[k] = direction[k] == 0 ? 1e30f : 1 / direction[k];
      start[k] = p[axes[k]];
    }
  }
};

// +1 or -1 where the ray crosses the triangle, by the side that it comes from; 0 where it misses.
NF_HD int crossing(const CrossingRay& ray, const float* t) {
  float x[3], y[3], z[3];
  for (int corner = 0; corner < 3; ++corner) {
    const float* v = t + 3 * corner;
    z[corner] = v[ray.axes[2]] - ray.start[2];
    x[corner] = v[ray.axes[0]] - ray.start[0] - ray.shear[0] * z[corner];
    y[corner] = v[ray.axes[1]] - ray.start[1] - ray.shear[1] * z[corner];
  }
  const float u = x[2] * y[1] - y[2] * x[1], v = x[0] * y[2] - y[0] * x[2], w = x[1] * y[0] - y[1] * x[0];
  if ((u < 0 || v < 0 || w < 0) && (u > 0 || v > 0 || w > 0)) return 0;
  const float det = u + v + w;
  if (!(det > 0 || det < 0)) return 0;  // edge on, or NaN
  const float distance = (u * z[0] + v * z[1] + w * z[2]) * ray.shear[2];
  if (det > 0 ? distance <= 0 : distance >= 0) return 0;
  return det > 0 ? 1 : -1;
}

// Whether the ray may meet a box; the bound is widened by the rounding of its own computation (Ize 2013).
NF_HD bool meets_box(const CrossingRay& ray, const float* box) {
  float t_near = 0, t_far = INFINITY;
  for (int k = 0; k < 3; ++k) {
    const float a = (box[k] - ray.origin[k]) * ray.inverse[k], b = (box[k + 3] - ray.origin[k]) * ray.inverse[k];
    t_near = max(t_near, min(a, b));
    t_far = min(t_far, max(a, b));
  }
  return t_near <= t_far * 1.0000008f;
}

}  // namespace nf
