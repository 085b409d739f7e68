// SPDX-License-Identifier: Apache-2.0
// Random pixels with their rays, from images, masks and lists that end where their data ends; pixel -> ray -> pixel
// through every camera model.
#include <cmath>

#include "check.h"
#include "ops/camera.h"
#include "ops/pixel.h"
#include "views.h"

using namespace nf;

// What a sampler writes, and the views it looks through.
struct Batch {
  std::vector<float> origins, directions, targets;
  std::vector<int32_t> picks;
  explicit Batch(int64_t n) : origins(3 * n), directions(3 * n), targets(4 * n), picks(3 * n) {}
};

template <typename Value>
static void test_samples(int n_channels, bool with_masks, bool with_list) {
  const test::Views views;
  constexpr int64_t n = 2111;
  std::vector<Value> images(views.n_pixels * n_channels);
  for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<Value>(random_below(1, i, 0, 256));
  std::vector<uint8_t> masks(views.n_pixels);
  for (int64_t i = 0; i < views.n_pixels; ++i) masks[i] = i % 3 == 0;
  std::vector<int32_t> listed = {0, static_cast<int32_t>(views.n_blocks) - 1};
  Batch batch(n);
  const SamplePixels<Value> sample{{images.data(), with_masks ? masks.data() : nullptr, views.pixel_starts.data(),
                                    views.sizes.data(), views.kCount, n_channels},
                                   {views.block_starts.data(), with_list ? listed.data() : nullptr,
                                    with_list ? static_cast<int64_t>(listed.size()) : views.n_blocks},
                                   views.cameras(),
                                   5,
                                   batch.origins.data(),
                                   batch.directions.data(),
                                   batch.targets.data(),
                                   batch.picks.data()};
  cpu::sample_pixels(sample, n);

  std::vector<int64_t> view_idx(n), hits(views.n_pixels);
  std::vector<float> pixel_xy(2 * n), origins(3 * n), directions(3 * n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t view = batch.picks[3 * i], x = batch.picks[3 * i + 1], y = batch.picks[3 * i + 2];
    CHECK(0 <= view && view < views.kCount && x < views.sizes[2 * view] && y < views.sizes[2 * view + 1]);
    const int64_t pixel = views.pixel_starts[view] + y * views.sizes[2 * view] + x;
    ++hits[pixel];
    CHECK(!with_masks || masks[pixel]);
    const float scale = sizeof(Value) == 1 ? 255.0f : 1.0f;
    const float blue = static_cast<float>(images[pixel * n_channels + (n_channels < 3 ? 0 : 2)]) / scale;
    const float alpha = n_channels % 2 ? 1.0f : static_cast<float>(images[pixel * n_channels + n_channels - 1]) / scale;
    CHECK(batch.targets[4 * i + 2] == blue && batch.targets[4 * i + 3] == alpha);
    view_idx[i] = view;
    pixel_xy[2 * i] = static_cast<float>(x) + 0.5f;
    pixel_xy[2 * i + 1] = static_cast<float>(y) + 0.5f;
  }
  cpu::camera_rays(views.cameras(), view_idx.data(), pixel_xy.data(), n, origins.data(), directions.data());
  CHECK(batch.origins == origins && batch.directions == directions);
  CHECK(hits[views.n_pixels - 1] > 0 || with_masks);  // the last pixel of the last image is in reach
  CHECK(!with_list || hits[16] == 0);                 // and what is not listed is not
}

template <typename T>
static std::vector<T> as(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// Rounding of the ray and of the point on it: some ten roundings of image coordinates below 32, through lenses whose
// slope stays below 2; and what the inverse of a lens leaves, kUndistortPixels.
template <typename T>
static void test_there_and_back() {
  const test::Views views;
  const std::vector<T> c2w = as<T>(views.c2w), intrinsics = as<T>(views.intrinsics),
                       distortion = as<T>(views.distortion);
  const CameraViews<T> cameras{c2w.data(), intrinsics.data(), distortion.data(), views.models.data()};
  constexpr int64_t n = 1025;
  std::vector<int64_t> view_idx(n);
  std::vector<T> pixel_xy(2 * n), origins(3 * n), directions(3 * n), points(3 * n), back(2 * n), depths(n);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t view = view_idx[i] = i % views.kCount;
    for (int axis = 0; axis < 2; ++axis)
      pixel_xy[2 * i + axis] = T(random_uniform(9, i, axis)) * T(views.sizes[2 * view + axis]);
  }
  cpu::camera_rays(cameras, view_idx.data(), pixel_xy.data(), n, origins.data(), directions.data());
  for (int64_t i = 0; i < 3 * n; ++i) points[i] = origins[i] + T(1.5) * directions[i];
  cpu::project_points(cameras, view_idx.data(), points.data(), n, back.data(), depths.data());
  const double bound = 20 * 32 * (sizeof(T) == 4 ? 0x1p-24 : 0x1p-53) + 2 * kUndistortPixels;
  for (int64_t i = 0; i < 2 * n; ++i) CHECK(std::fabs(back[i] - pixel_xy[i]) <= bound);
  for (const T depth : depths) CHECK(depth > 0);
}

int main() {
  for (int n_channels = 1; n_channels <= 4; ++n_channels) {
    test_samples<uint8_t>(n_channels, n_channels % 2, n_channels > 2);
    test_samples<float>(n_channels, n_channels > 2, n_channels % 2);
  }
  test_there_and_back<float>();
  test_there_and_back<double>();
  return test::finish("pixel");
}
