// SPDX-License-Identifier: Apache-2.0
// Cameras: pixel -> ray and point -> pixel. OpenGL axes in the world and in c2w (x right, y up, looking down -z); image
// coordinates have their origin at the corner of the image, y down, so the centre of pixel (i, j) is (i + 0.5, j +
// 0.5). Inside, the frame of the lens is OpenCV's: (X, Y, Z) = (x, -y, -z).
//   pinhole         p = (X / Z, Y / Z)
//   opencv          p = q (1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8) + tangential(p1, p2), q = (X / Z, Y / Z), r = |q|
//   opencv_fisheye  p = q / |q| * theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8), theta = angle to Z
//   equirectangular p = (longitude, latitude) = (atan2(X, Z), atan2(Y, hypot(X, Z)))
//   pixel = (fl_x p_x + cx, fl_y p_y + cy)
// Distortion is inverted in double by Newton steps that are halved until they help, to 1e-7 pixels. A pixel outside of
// the range of its lens polynomial has no exact ray: it gets the one whose image came nearest, finite and of unit
// length. What points come to an image by are templates on the number or, on the CPU, on vf: many points at once.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#ifndef __CUDACC__
#include "core/simd.h"
#endif

namespace nf {

enum CameraModel : int64_t { kPinhole = 0, kOpencv = 1, kOpencvFisheye = 2, kEquirectangular = 3 };

constexpr int kUndistortSteps = 20;
constexpr double kUndistortPixels = 1e-7;
constexpr double kPi = 3.14159265358979323846;

template <typename T>
struct CameraViews {
  const T* c2w;           // [n_views, 3, 4]
  const T* intrinsics;    // [n_views, 4] fl_x fl_y cx cy
  const T* distortion;    // [n_views, 6] k1 k2 k3 k4 p1 p2
  const int64_t* models;  // [n_views]
};

namespace detail {

template <typename V>
struct LaneOf {
  using type = V;
};
// In double, so that every device rounds to the same float.
NF_HD double angle_to_axis(double off, double along) { return ::atan2(off, along); }
NF_HD float angle_to_axis(float off, float along) {
  return static_cast<float>(::atan2(static_cast<double>(off), static_cast<double>(along)));
}
#ifndef __CUDACC__
template <>
struct LaneOf<vf> {
  using type = float;
};
NF_HD vf angle_to_axis(vf off, vf along) {
  for (int lane = 0; lane < kLanes; ++lane) off[lane] = angle_to_axis(off[lane], along[lane]);
  return off;
}
#endif

// An angle of a panorama. At its border, which is none in space, it ends so far inside that its pixel is one of the
// picture, however it rounds.
template <typename V>
NF_HD V within_border(V angle, double border) {
  using T = typename LaneOf<V>::type;
  constexpr double kInner = 1 - (sizeof(T) == sizeof(float) ? 1e-6 : 1e-14);  // eight roundings and more
  const V end = V{} + static_cast<T>(border * kInner);
  return max(min(angle, end), -end);
}

}  // namespace detail

// 1 + k1 s + k2 s^2 + k3 s^3 + k4 s^4 and its derivative by s, s = r^2 or theta^2
template <typename V, typename K>
NF_HD V radial_factor(const K* k, V s, V* derivative) {
  using T = typename detail::LaneOf<V>::type;
  const T k1 = k[0], k2 = k[1], k3 = k[2], k4 = k[3];
  *derivative = k1 + s * (2 * k2 + s * (3 * k3 + s * (4 * k4)));
  return 1 + s * (k1 + s * (k2 + s * (k3 + s * k4)));
}

// Whether r (1 + k1 r^2 + ...), or that of theta, grows all the way from 0 to the root of s. Where it has begun to
// fall, an image would fold back onto that of other points.
template <typename V, typename K>
NF_HD auto is_unfolded(const K* k, V s) {
  using T = typename detail::LaneOf<V>::type;
  auto grows = s >= 0;
  NF_ROLL for (int i = 1; i <= 8; ++i) {
    const V part = s * (T(i * i) / T(64));
    V slope;
    const V factor = radial_factor(k, part, &slope);
    grows = grows & (factor + 2 * part * slope > 0);
  }
  return grows;
}

// q -> p of the opencv model; jacobian [dpx/dqx, dpx/dqy, dpy/dqx, dpy/dqy].
template <typename V, typename K>
NF_HD void distort_opencv(const K* distortion, const V* q, V* p, V* jacobian) {
  using T = typename detail::LaneOf<V>::type;
  const V x = q[0], y = q[1];
  const T p1 = distortion[4], p2 = distortion[5];
  const V r2 = x * x + y * y;
  V slope;
  const V factor = radial_factor(distortion, r2, &slope);
  p[0] = x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x * x);
  p[1] = y * factor + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y;
  jacobian[0] = factor + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x;
  jacobian[1] = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y;
  jacobian[2] = jacobian[1];
  jacobian[3] = factor + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x;
}

template <typename K>
NF_HD void undistort_opencv(const K* distortion, const double* p, double tolerance, double* q) {
  double image[2], jacobian[4];
  q[0] = p[0];
  q[1] = p[1];
  distort_opencv(distortion, q, image, jacobian);
  double ex = p[0] - image[0], ey = p[1] - image[1];
  for (int step = 0; step < kUndistortSteps && ex * ex + ey * ey > tolerance * tolerance; ++step) {
    const double determinant = jacobian[0] * jacobian[3] - jacobian[1] * jacobian[2];
    if (determinant == 0) return;
    const double dx = (jacobian[3] * ex - jacobian[1] * ey) / determinant;
    const double dy = (jacobian[0] * ey - jacobian[2] * ex) / determinant;
    double length = 1, next[2], next_jacobian[4], nx = 0, ny = 0;
    for (;; length *= 0.5) {
      if (length < 1e-3) return;
      const double trial[2] = {q[0] + length * dx, q[1] + length * dy};
      distort_opencv(distortion, trial, image, next_jacobian);
      nx = p[0] - image[0], ny = p[1] - image[1];
      next[0] = trial[0], next[1] = trial[1];
      if (nx * nx + ny * ny < ex * ex + ey * ey) break;
    }
    q[0] = next[0], q[1] = next[1], ex = nx, ey = ny;
    for (int i = 0; i < 4; ++i) jacobian[i] = next_jacobian[i];
  }
}

// The angle whose distorted value is theta_d >= 0, in [0, pi].
template <typename K>
NF_HD double undistort_fisheye(const K* distortion, double theta_d, double tolerance) {
  double theta = min(theta_d, kPi), slope;
  double error = theta_d - theta * radial_factor(distortion, theta * theta, &slope);
  for (int step = 0; step<kUndistortSteps&& ::fabs(error)> tolerance; ++step) {
    const double factor = radial_factor(distortion, theta * theta, &slope);
    const double derivative = factor + 2 * theta * theta * slope;
    if (derivative == 0) return theta;
    double length = 1, next = theta, next_error = error;
    for (;; length *= 0.5) {
      if (length < 1e-3) return theta;
      next = clamp(theta + length * error / derivative, 0.0, kPi);
      next_error = theta_d - next * radial_factor(distortion, next * next, &slope);
      if (::fabs(next_error) < ::fabs(error)) break;
    }
    theta = next, error = next_error;
  }
  return theta;
}

// Direction in the lens frame that image point p comes from, not normalised.
template <typename T>
NF_HD void lift(int64_t model, const T* distortion, const T* focal, const T* p, T* direction) {
  direction[0] = p[0], direction[1] = p[1], direction[2] = T(1);
  if (model == kPinhole) return;
  const double tolerance = kUndistortPixels / max(::fabs(double(focal[0])), ::fabs(double(focal[1])));
  if (model == kOpencv) {
    const double image[2] = {static_cast<double>(p[0]), static_cast<double>(p[1])};
    double q[2];
    undistort_opencv(distortion, image, tolerance, q);
    direction[0] = static_cast<T>(q[0]), direction[1] = static_cast<T>(q[1]);
  } else if (model == kOpencvFisheye) {
    const double x = static_cast<double>(p[0]), y = static_cast<double>(p[1]);
    const double theta_d = ::sqrt(x * x + y * y);
    if (theta_d == 0) return;
    const double theta = undistort_fisheye(distortion, theta_d, tolerance), sine = ::sin(theta);
    direction[0] = static_cast<T>(x / theta_d * sine), direction[1] = static_cast<T>(y / theta_d * sine);
    direction[2] = static_cast<T>(::cos(theta));
  } else if (model == kEquirectangular) {
    const double longitude = static_cast<double>(p[0]), latitude = static_cast<double>(p[1]);
    const double level = ::cos(latitude);
    direction[0] = static_cast<T>(::sin(longitude) * level), direction[1] = static_cast<T>(::sin(latitude));
    direction[2] = static_cast<T>(::cos(longitude) * level);
  }
}

// Unit direction in the world and origin of the ray through image coordinates (x, y) of a view.
template <typename T>
NF_HD void camera_ray(const CameraViews<T>& views, int64_t view, T x, T y, T* origin, T* direction) {
  const T* intrinsics = views.intrinsics + 4 * view;
  const T p[2] = {(x - intrinsics[2]) / intrinsics[0], (y - intrinsics[3]) / intrinsics[1]};
  T d[3];
  lift(views.models[view], views.distortion + 6 * view, intrinsics, p, d);
  const T scale = T(1) / root_of(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  const T local[3] = {d[0] * scale, -d[1] * scale, -d[2] * scale};
  const T* c2w = views.c2w + 12 * view;
  for (int row = 0; row < 3; ++row) {
    direction[row] = c2w[4 * row] * local[0] + c2w[4 * row + 1] * local[1] + c2w[4 * row + 2] * local[2];
    origin[row] = c2w[4 * row + 3];
  }
}

// Lens-frame coordinates of a point.
template <typename T, typename V>
NF_HD void to_lens(const T* c2w, const V* point, V* lens) {
  const V d[3] = {point[0] - c2w[3], point[1] - c2w[7], point[2] - c2w[11]};
  for (int axis = 0; axis < 3; ++axis) {
    const V along = c2w[axis] * d[0] + c2w[4 + axis] * d[1] + c2w[8 + axis] * d[2];
    lens[axis] = axis == 0 ? along : -along;
  }
}

// Image coordinates of a lens-frame point; false where the model has none: behind the camera (fisheye: the backward
// axis; panorama: in the camera itself), or so far out that the polynomial of the lens has begun to fall.
template <typename T, typename V>
NF_HD auto image_point(const CameraViews<T>& views, int64_t view, const V* lens, V* pixel) {
  const T* distortion = views.distortion + 6 * view;
  auto has_image = lens[2] > 0;
  V p[2];
  if (views.models[view] == kOpencvFisheye) {
    const V r = root_of(lens[0] * lens[0] + lens[1] * lens[1]), theta = detail::angle_to_axis(r, lens[2]);
    V slope;
    const V per_r = theta * radial_factor(distortion, theta * theta, &slope) / (r + T(1e-30));  // not 0 / 0 on the axis
    p[0] = lens[0] * per_r, p[1] = lens[1] * per_r;
    has_image = (has_image | (r > 0)) & is_unfolded(distortion, theta * theta);
  } else if (views.models[view] == kEquirectangular) {
    const V level = root_of(lens[0] * lens[0] + lens[2] * lens[2]);
    p[0] = detail::within_border(detail::angle_to_axis(lens[0], lens[2]), kPi);
    p[1] = detail::within_border(detail::angle_to_axis(lens[1], level), kPi / 2);
    has_image = level + lens[1] * lens[1] > 0;
  } else {
    const V q[2] = {lens[0] / lens[2], lens[1] / lens[2]};
    p[0] = q[0], p[1] = q[1];
    if (views.models[view] == kOpencv) {
      V jacobian[4];
      has_image = has_image & is_unfolded(distortion, q[0] * q[0] + q[1] * q[1]);
      distort_opencv(distortion, q, p, jacobian);
    }
  }
  const T* intrinsics = views.intrinsics + 4 * view;
  pixel[0] = intrinsics[0] * p[0] + intrinsics[2];
  pixel[1] = intrinsics[1] * p[1] + intrinsics[3];
  return has_image;
}

template <typename T>
struct CameraRays {
  CameraViews<T> views;
  const int64_t* view_idx;  // [n]
  const T* pixel_xy;        // [n, 2]
  T* origins;               // [n, 3]
  T* directions;            // [n, 3]
  NF_HD void operator()(int64_t i) const {
    camera_ray(views, view_idx[i], pixel_xy[2 * i], pixel_xy[2 * i + 1], origins + 3 * i, directions + 3 * i);
  }
};

template <typename T>
struct ProjectPoints {
  CameraViews<T> views;
  const int64_t* view_idx;  // [n]
  const T* points;          // [n, 3]
  T* pixel_xy;              // [n, 2], NaN where there is no image
  T* depths;                // [n] along the viewing axis, negative behind
  NF_HD void operator()(int64_t i) const {
    T lens[3];
    to_lens(views.c2w + 12 * view_idx[i], points + 3 * i, lens);
    depths[i] = lens[2];
    if (!image_point(views, view_idx[i], lens, pixel_xy + 2 * i)) pixel_xy[2 * i] = pixel_xy[2 * i + 1] = T(NAN);
  }
};

}  // namespace nf
