// SPDX-License-Identifier: Apache-2.0
#include "ops/camera.h"

#include "core/parallel.h"

namespace nf::cpu {

template <typename T>
void camera_rays(const CameraViews<T>& views, const int64_t* view_idx, const T* pixel_xy, int64_t n, T* origins,
                 T* directions) {
  parallel_for(n, CameraRays<T>{views, view_idx, pixel_xy, origins, directions}, 1024);
}

template <typename T>
void project_points(const CameraViews<T>& views, const int64_t* view_idx, const T* points, int64_t n, T* pixel_xy,
                    T* depths) {
  parallel_for(n, ProjectPoints<T>{views, view_idx, points, pixel_xy, depths}, 1024);
}

#define NF_INSTANTIATE(T)                                                                      \
  template void camera_rays(const CameraViews<T>&, const int64_t*, const T*, int64_t, T*, T*); \
  template void project_points(const CameraViews<T>&, const int64_t*, const T*, int64_t, T*, T*);
NF_INSTANTIATE(float)
NF_INSTANTIATE(double)

}  // namespace nf::cpu
