// SPDX-License-Identifier: Apache-2.0
// Where a cube of space may appear in an image: a rectangle that holds its whole image (conservative, never too small),
// or the proof that it is out of sight. A cube is bounded by its box in lens coordinates, whose image is exact for a
// pinhole. Lenses are assumed smooth: the image of a small box is bounded by its corners, edge midpoints and centre,
// plus a tenth of its size and a pixel. In a panorama the ball around a cube lies between two latitudes and longitudes;
// where the ends of the panorama meet in it, its footprint is as wide as the panorama.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#include "math/camera.h"

namespace nf {

// Views with the image plane coordinates (X / Z, Y / Z) that bound what each image shows: x_min x_max y_min y_max.
// Infinite for a fisheye and a panorama, whose images may have no such bounds.
struct SeenViews {
  CameraViews<float> cameras;
  const float* bounds;   // [n_views, 4]
  const int64_t* sizes;  // [n_views, 2] width, height
};

enum class Sight {
  kOutside,  // no part of the cube appears in the image
  kPartial,  // some of it may; the rectangle holds that part
  kInside,   // all of it does, within the rectangle
};

struct Footprint {
  float low[2], high[2];  // image coordinates, x and y
};

namespace detail {

constexpr float kSmallestDepth = 1e-6f;
constexpr float kLensSlack = 0.1f;      // of the size of a footprint, for what a lens bends beyond the points looked at
constexpr float kBallOfCube = 1.7321f;  // radius over half width, and what rounding may take away
constexpr float kWidestAngle =
    0.25f;  // of a cube seen through a fisheye, radius over distance, to be bounded by points

NF_HD void grow(Footprint& print, const float* pixel) {
  for (int axis = 0; axis < 2; ++axis) {
    print.low[axis] = min(print.low[axis], pixel[axis]);
    print.high[axis] = max(print.high[axis], pixel[axis]);
  }
}

// A cube that reaches outside of the image is seen in part; its footprint ends at the border.
NF_HD Sight confine(const int64_t* size, Footprint& print) {
  bool inside = true, outside = false;
  for (int axis = 0; axis < 2; ++axis) {
    const float end = static_cast<float>(size[axis]);
    inside = inside && print.low[axis] >= 0 && print.high[axis] <= end;
    outside = outside || print.high[axis] <= 0 || print.low[axis] >= end;
    print.low[axis] = clamp(print.low[axis], 0.0f, end);
    print.high[axis] = clamp(print.high[axis], 0.0f, end);
  }
  return outside ? Sight::kOutside : inside ? Sight::kInside : Sight::kPartial;
}

NF_HD Sight whole_image(const int64_t* size, Footprint& print) {
  print = {{0, 0}, {static_cast<float>(size[0]), static_cast<float>(size[1])}};
  return Sight::kPartial;
}

NF_HD void widen(Footprint& print) {
  for (int axis = 0; axis < 2; ++axis) {
    const float slack = 1 + kLensSlack * (print.high[axis] - print.low[axis]);
    print.low[axis] -= slack;
    print.high[axis] += slack;
  }
}

// Grid of 3 x 3 points over a rectangle of the undistorted image plane, through the lens. False where one has no image.
NF_HD bool bound_image(const SeenViews& views, int64_t view, const float* low, const float* high, Footprint& print) {
  print = {{INFINITY, INFINITY}, {-INFINITY, -INFINITY}};
  for (int i = 0; i < 9; ++i) {
    const float u = 0.5f * static_cast<float>(i % 3), v = 0.5f * static_cast<float>(i / 3);
    const float lens[3] = {low[0] + u * (high[0] - low[0]), low[1] + v * (high[1] - low[1]), 1.0f};
    float pixel[2];
    if (!image_point(views.cameras, view, lens, pixel)) return false;
    grow(print, pixel);
  }
  return true;
}

NF_HD Sight fisheye_sight(const SeenViews& views, int64_t view, const float* center, float half, Footprint& print) {
  const int64_t* size = views.sizes + 2 * view;
  const float* c2w = views.cameras.c2w + 12 * view;
  float lens[3], pixel[2];
  to_lens(c2w, center, lens);
  const float distance = ::sqrtf(lens[0] * lens[0] + lens[1] * lens[1] + lens[2] * lens[2]);
  const float radius = half * 1.7320508f;
  if (radius > kWidestAngle * distance) return whole_image(size, print);
  // The least angle to the axis: a sine of up to a quarter is at most 1.02 times less than its angle.
  const float off = root_of(lens[0] * lens[0] + lens[1] * lens[1]);
  const float angle = max(angle_to_axis(off, lens[2]) - 1.02f * radius / distance, 0.0f);
  if (!is_unfolded(views.cameras.distortion + 6 * view, angle * angle)) return Sight::kOutside;
  print = {{INFINITY, INFINITY}, {-INFINITY, -INFINITY}};
  for (int corner = 0; corner < 8; ++corner) {
    float point[3];
    for (int axis = 0; axis < 3; ++axis) point[axis] = center[axis] + (corner >> axis & 1 ? half : -half);
    to_lens(c2w, point, lens);
    if (!image_point(views.cameras, view, lens, pixel)) return whole_image(size, print);
    grow(print, pixel);
  }
  widen(print);
  return confine(size, print);
}

// Half the angle that a ball takes up as seen from `distance`, pi from within.
NF_HD float angle_of_ball(float radius, float distance) {
  if (radius >= distance) return static_cast<float>(kPi);
  return angle_to_axis(radius, root_of((distance - radius) * (distance + radius)));
}

NF_HD Sight panorama_sight(const SeenViews& views, int64_t view, const float* center, float half, Footprint& print) {
  const float* intrinsics = views.cameras.intrinsics + 4 * view;
  float lens[3];
  to_lens(views.cameras.c2w + 12 * view, center, lens);
  const float level2 = lens[0] * lens[0] + lens[2] * lens[2], level = root_of(level2);
  const float radius = half * kBallOfCube, distance = root_of(level2 + lens[1] * lens[1]);
  const float angles[2] = {angle_to_axis(lens[0], lens[2]), angle_to_axis(lens[1], level)};
  // From above, the ball is a disk as large as itself: its longitudes are those of the disk. Beyond an end of the
  // panorama they go on at the other one: then it is all of them.
  float reach[2] = {angle_of_ball(radius, level), angle_of_ball(radius, distance)};
  if (::fabsf(angles[0]) + reach[0] > static_cast<float>(kPi)) reach[0] = static_cast<float>(2 * kPi);
  for (int axis = 0; axis < 2; ++axis) {
    const double border = axis == 0 ? kPi : kPi / 2;
    const float low = within_border(angles[axis] - reach[axis], border),
                high = within_border(angles[axis] + reach[axis], border);
    print.low[axis] = madd(intrinsics[axis], low, intrinsics[2 + axis]);
    print.high[axis] = madd(intrinsics[axis], high, intrinsics[2 + axis]);
  }
  return confine(views.sizes + 2 * view, print);
}

}  // namespace detail

// Sight of the cube with `center` and half width `half` in a view; *print is set unless it is outside.
NF_HD Sight sight_of_cube(const SeenViews& views, int64_t view, const float* center, float half, Footprint* print) {
  if (views.cameras.models[view] == kOpencvFisheye) return detail::fisheye_sight(views, view, center, half, *print);
  if (views.cameras.models[view] == kEquirectangular) return detail::panorama_sight(views, view, center, half, *print);
  const float* c2w = views.cameras.c2w + 12 * view;
  const float* bounds = views.bounds + 4 * view;
  const int64_t* size = views.sizes + 2 * view;
  float lens[3], extent[3];
  to_lens(c2w, center, lens);
  for (int axis = 0; axis < 3; ++axis)
    extent[axis] = half * (::fabsf(c2w[axis]) + ::fabsf(c2w[4 + axis]) + ::fabsf(c2w[8 + axis]));
  if (lens[2] + extent[2] <= 0) return Sight::kOutside;
  if (lens[2] - extent[2] <= detail::kSmallestDepth) {
    // Reaches behind the camera: only the planes through the borders of the image can tell that it is outside.
    for (int axis = 0; axis < 2; ++axis) {
      float below = 0, above = 0;  // largest (X - x_min Z) and (x_max Z - X) over the cube, less those at its centre
      for (int row = 0; row < 3; ++row) {
        const float x_row = c2w[4 * row + axis] * (axis == 0 ? 1 : -1), z_row = -c2w[4 * row + 2];
        below += half * ::fabsf(x_row - bounds[2 * axis] * z_row);
        above += half * ::fabsf(bounds[2 * axis + 1] * z_row - x_row);
      }
      if (lens[axis] - bounds[2 * axis] * lens[2] + below <= 0) return Sight::kOutside;
      if (bounds[2 * axis + 1] * lens[2] - lens[axis] + above <= 0) return Sight::kOutside;
    }
    return detail::whole_image(size, *print);
  }
  const float near = 1 / (lens[2] - extent[2]), far = 1 / (lens[2] + extent[2]);
  float low[2], high[2];
  bool inside = true;
  for (int axis = 0; axis < 2; ++axis) {
    const float least = lens[axis] - extent[axis], most = lens[axis] + extent[axis];
    low[axis] = min(least * near, least * far);
    high[axis] = max(most * near, most * far);
    if (high[axis] <= bounds[2 * axis] || low[axis] >= bounds[2 * axis + 1]) return Sight::kOutside;
    inside = inside && low[axis] >= bounds[2 * axis] && high[axis] <= bounds[2 * axis + 1];
    low[axis] = max(low[axis], bounds[2 * axis]);
    high[axis] = min(high[axis], bounds[2 * axis + 1]);
  }
  if (views.cameras.models[view] == kPinhole) {
    const float* intrinsics = views.cameras.intrinsics + 4 * view;
    for (int axis = 0; axis < 2; ++axis) {
      print->low[axis] = madd(intrinsics[axis], low[axis], intrinsics[2 + axis]);
      print->high[axis] = madd(intrinsics[axis], high[axis], intrinsics[2 + axis]);
    }
  } else {
    if (!detail::bound_image(views, view, low, high, *print)) return detail::whole_image(size, *print);
    detail::widen(*print);
  }
  const Sight sight = detail::confine(size, *print);
  return sight == Sight::kInside && !inside ? Sight::kPartial : sight;
}

}  // namespace nf
