// SPDX-License-Identifier: Apache-2.0
// Four small views, one per camera model, of different sizes: with partial blocks of 8 x 8 pixels at its borders, of
// whole blocks, smaller than a block, and a piece of a panorama.
#pragma once

#include "check.h"
#include "math/footprint.h"
#include "math/pixel.h"

namespace nf::test {

struct Views {
  static constexpr int64_t kCount = 4;
  // Looks down -z from above, along +y from a side, down -z from the middle of the unit cube, and along +y again.
  std::vector<float> c2w = {
      1, 0, 0, 0.5f, 0, 1, 0,  0.5f,  0, 0, 1, 2,     //
      1, 0, 0, 0.5f, 0, 0, -1, -1.5f, 0, 1, 0, 0.5f,  //
      1, 0, 0, 0.5f, 0, 1, 0,  0.5f,  0, 0, 1, 0.5f,  //
      1, 0, 0, 0.5f, 0, 0, -1, -1.5f, 0, 1, 0, 0.5f,  //
  };
  std::vector<float> intrinsics = {20, 20, 15.5f, 10.5f, 16, 18, 8, 8, 4, 4, 2.5f, 1.5f, 16, 16, 6, 5};
  std::vector<float> distortion = {0,     0,     0, 0, 0, 0, 0.05f, -0.01f, 0, 0, 0.002f, -0.001f,
                                   0.02f, 0.01f, 0, 0, 0, 0, 0,     0,      0, 0, 0,      0};
  std::vector<int64_t> models = {kPinhole, kOpencv, kOpencvFisheye, kEquirectangular};
  std::vector<int64_t> sizes = {31, 21, 16, 16, 5, 3, 12, 10};  // width, height
  // of the undistorted image plane: exact for the pinhole, generous for opencv, none for the others
  std::vector<float> bounds = {-0.775f,   0.775f,   -0.525f,   0.525f,   -0.6f,     0.6f,     -0.6f,     0.6f,
                               -INFINITY, INFINITY, -INFINITY, INFINITY, -INFINITY, INFINITY, -INFINITY, INFINITY};
  std::vector<int64_t> pixel_starts, block_starts;
  int64_t n_pixels = 0, n_blocks = 0;

  Views() {
    for (int64_t view = 0; view < kCount; ++view) {
      const int64_t width = sizes[2 * view], height = sizes[2 * view + 1];
      pixel_starts.push_back(n_pixels);
      block_starts.push_back(n_blocks);
      n_pixels += width * height;
      n_blocks += (width + kPixelBlock - 1) / kPixelBlock * ((height + kPixelBlock - 1) / kPixelBlock);
    }
  }
  CameraViews<float> cameras() const { return {c2w.data(), intrinsics.data(), distortion.data(), models.data()}; }
  SeenViews seen() const { return {cameras(), bounds.data(), sizes.data()}; }
};

}  // namespace nf::test
