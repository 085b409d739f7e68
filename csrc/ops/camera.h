// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "math/camera.h"

namespace nf::NF_BACKEND {

template <typename T>
void camera_rays(const CameraViews<T>& views, const int64_t* view_idx, const T* pixel_xy, int64_t n, T* origins,
                 T* directions);
template <typename T>
void project_points(const CameraViews<T>& views, const int64_t* view_idx, const T* points, int64_t n, T* pixel_xy,
                    T* depths);

}  // namespace nf::NF_BACKEND
