// SPDX-License-Identifier: Apache-2.0
// What views of known depths say about points: how far in front of what is seen they lie, as one distance of all views
// (Curless and Levoy, A volumetric method for building complex models from range images, 1996, with equal weights), and
// which of them lie where a view sees something. Depths are those along rays. Templates on float or vf, as in camera.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#include "math/camera.h"
#include "math/occupancy.h"

namespace nf {

// Pictures of all views one after the other, row by row.
struct DepthPictures {
  CameraViews<float> cameras;
  const int64_t* sizes;   // [n_views, 2] width, height; below 2^31 pixels
  const int64_t* starts;  // [n_views] first pixel of each view
  const float* depths;    // [n_pixels] infinite where no ray ends
  int64_t n_views;
};

namespace detail {
NF_HD float at(const float* values, int32_t i) { return values[i]; }
template <typename T>
NF_HD T lane_of(T value, int) {
  return value;
}
#ifndef __CUDACC__
NF_HD vf at(const float* values, vi i) { return gather(values, i); }
NF_HD float lane_of(vf values, int lane) { return values[lane]; }
NF_HD bool lane_of(vi mask, int lane) { return mask[lane] != 0; }
#endif
}  // namespace detail

template <typename V>
using MaskOf = decltype(V{} < V{});

// How far points lie in front of what a view sees, negative behind it, and from its camera. False outside of the
// picture, where they mean nothing.
template <typename V>
NF_HD MaskOf<V> clearance(const DepthPictures& pictures, int64_t view, const V* point, V* front, V* distance) {
  const float* c2w = pictures.cameras.c2w + 12 * view;
  const int64_t* size = pictures.sizes + 2 * view;
  V lens[3], pixel[2];
  to_lens(c2w, point, lens);
  MaskOf<V> inside = image_point(pictures.cameras, view, lens, pixel);
  for (int axis = 0; axis < 2; ++axis)
    inside = inside & (pixel[axis] >= 0) & (pixel[axis] < static_cast<float>(size[axis]));
  const V zero{};
  *front = *distance = zero;
  if (!detail::any(inside)) return inside;
  const auto x = detail::truncate(detail::select(inside, pixel[0], zero));
  const auto y = detail::truncate(detail::select(inside, pixel[1], zero));
  const V depth = detail::at(pictures.depths + pictures.starts[view], y * static_cast<int32_t>(size[0]) + x);
  const V d[3] = {point[0] - c2w[3], point[1] - c2w[7], point[2] - c2w[11]};
  *distance = root_of(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  *front = depth - *distance;
  return inside;
}

// A functor asks the views about a point, one after the other, and keeps what it hears.
template <typename Asker>
NF_HD void ask_views(const Asker& asker, int64_t i) {
  typename Asker::template Heard<float> heard;
  for (int64_t view = 0; view < asker.pictures.n_views && !heard.is_enough(); ++view)
    asker.ask(view, asker.points + 3 * i, heard);
  asker.answer(heard, i, 1);
}

// The mean over views of how far points lie in front of what is seen, in bands and at most 1, without views that see
// something a band or more in front of them. Without any such view -1 if one has the point in its picture, else 1.
struct FuseDepths {
  DepthPictures pictures;
  const float* points;    // [n, 3]
  float per_band, sheet;  // 1 / band; in bands
  float* distance;        // [n]
  uint8_t* is_sheet;      // [n] one view has it more than a sheet in front, but not a band, and one as far behind

  template <typename V>
  struct Heard {
    V total{}, count{};
    MaskOf<V> hidden{}, in_front{}, behind{};
    NF_HD bool is_enough() const { return false; }
  };

  template <typename V>
  NF_HD void ask(int64_t view, const V* point, Heard<V>& heard) const {
    V front, distance;
    const MaskOf<V> inside = clearance(pictures, view, point, &front, &distance);
    if (!detail::any(inside)) return;
    const V zero{}, one = detail::broadcast(1.0f, front), bands = front * per_band;
    const MaskOf<V> tells = inside & (bands > -1);
    heard.total += detail::select(tells, min(bands, one), zero);
    heard.count += detail::select(tells, one, zero);
    heard.hidden = heard.hidden | (inside & (bands <= -1));
    heard.in_front = heard.in_front | (inside & (bands > sheet) & (bands < 1));
    heard.behind = heard.behind | (tells & (bands < -sheet));
  }

  // Of `n` points from i on.
  template <typename V>
  NF_HD void answer(const Heard<V>& heard, int64_t i, int n) const {
    const V one = detail::broadcast(1.0f, heard.total), otherwise = detail::select(heard.hidden, -one, one);
    const V mean = detail::select(heard.count > 0, heard.total / max(heard.count, one), otherwise);
    const MaskOf<V> both = heard.in_front & heard.behind;
    for (int lane = 0; lane < n; ++lane) {
      distance[i + lane] = detail::lane_of(mean, lane);
      is_sheet[i + lane] = detail::lane_of(both, lane);
    }
  }

  NF_HD void operator()(int64_t i) const { ask_views(*this, i); }
};

// Whether points lie at most `reach` cells off what a view sees, or pixels where these are larger than cells; with
// `in_front`, or anywhere in front of it.
struct SeenInDepths {
  DepthPictures pictures;
  const float* points;  // [n, 3]
  float cell, reach;
  bool in_front;
  uint8_t* seen;  // [n]

  template <typename V>
  struct Heard {
    MaskOf<V> seen{};
    NF_HD bool is_enough() const { return !detail::any(seen == 0); }
  };

  template <typename V>
  NF_HD void ask(int64_t view, const V* point, Heard<V>& heard) const {
    V front, distance;
    const MaskOf<V> inside = clearance(pictures, view, point, &front, &distance);
    const float* focal = pictures.cameras.intrinsics + 4 * view;
    const V off = reach * max(distance / min(focal[0], focal[1]), detail::broadcast(cell, front));
    const MaskOf<V> near = front <= off;
    heard.seen = heard.seen | (inside & (front >= -off) & (in_front ? inside : near));
  }

  template <typename V>
  NF_HD void answer(const Heard<V>& heard, int64_t i, int n) const {
    for (int lane = 0; lane < n; ++lane) seen[i + lane] = detail::lane_of(heard.seen, lane);
  }

  NF_HD void operator()(int64_t i) const { ask_views(*this, i); }
};

}  // namespace nf
