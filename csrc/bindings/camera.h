// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bindings/common.h"
#include "math/camera.h"

namespace nf {

template <typename T>
CameraViews<T> camera_views(const Array<const T, 3>& c2w, const Array<const T, 2>& intrinsics,
                            const Array<const T, 2>& distortion, const Array<const int64_t, 1>& models) {
  return {c2w.data(), intrinsics.data(), distortion.data(), models.data()};
}

}  // namespace nf
