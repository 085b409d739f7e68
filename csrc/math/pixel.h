// SPDX-License-Identifier: Apache-2.0
// Random pixels of many images as training rays: choose a pixel, build its ray, fetch its colour, put it over a
// background. Images are divided into blocks of 8 x 8 pixels; a pixel is drawn uniformly among those of the listed
// blocks that lie in the image and are not masked. In a panorama, whose pixels show ever less towards the poles, one is
// drawn in proportion to its solid angle, cos(latitude); one of the horizon is as likely as one of another image.
// Random numbers are counted by (seed, step, ray): the same pixels for any number of threads.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "core/rng.h"
#include "core/scalar.h"
#include "math/camera.h"

namespace nf {

constexpr int kPixelBlock = 8;        // pixels per side of a block
constexpr uint32_t kPixelStream = 3;  // of random_stream
constexpr uint32_t kBackgroundStream = 4;
constexpr uint32_t kPixelAttempts = 8;  // draws before the first valid pixel of the last block is searched for

// All images one after the other, rows of pixels, channels together: grey, grey + alpha, RGB or RGBA.
template <typename Value>
struct PackedImages {
  const Value* values;    // [n_pixels, n_channels], uint8 or float
  const uint8_t* masks;   // [n_pixels] 0 = ignore, or null
  const int64_t* starts;  // [n_views] first pixel of each image
  const int64_t* sizes;   // [n_views, 2] width, height
  int64_t n_views;
  int32_t n_channels;
};

// Blocks are numbered through all images, row by row.
struct PixelBlocks {
  const int64_t* starts;  // [n_views] first block of each image
  const int32_t* listed;  // [n_listed], or null: all blocks
  int64_t n_listed;
};

NF_HD int64_t blocks_along(int64_t pixels) { return (pixels + kPixelBlock - 1) / kPixelBlock; }

NF_HD float color_value(uint8_t value) { return static_cast<float>(value) / 255.0f; }
NF_HD float color_value(float value) { return value; }

struct PixelPick {
  int64_t view, x, y;
};

// cos(x) for |x| <= pi / 2, to 2e-7: the Taylor series, as what sums and products give is the same on every device.
NF_HD float cosine_of_latitude(float x) {
  const float s = x * x;
  float sum = 1.0f / 479001600.0f;  // 1 / 12!
  sum = fma(sum, s, -1.0f / 3628800.0f);
  sum = fma(sum, s, 1.0f / 40320.0f);
  sum = fma(sum, s, -1.0f / 720.0f);
  sum = fma(sum, s, 1.0f / 24.0f);
  sum = fma(sum, s, -0.5f);
  return fma(sum, s, 1.0f);
}

// Last view whose first block is not after `block`. Without branches: a random block would mispredict half of them.
NF_HD int64_t view_of_block(const int64_t* starts, int64_t n_views, int64_t block) {
  int64_t low = 0;
  for (int64_t left = n_views; left > 1;) {
    const int64_t half = left / 2;
    low += starts[low + half] <= block ? half : 0;
    left -= half;
  }
  return low;
}

template <typename Value>
struct SamplePixels {
  PackedImages<Value> images;
  PixelBlocks blocks;
  CameraViews<float> cameras;
  uint64_t stream;
  int64_t side;       // a pixel has side x side rays, in the middles of as many equal parts, row by row
  float* origins;     // [n * side * side, 3]
  float* directions;  // [n * side * side, 3]
  float* targets;     // [n, 4] RGB and straight alpha, 0 ... 1 for uint8 images
  int32_t* picks;     // [n, 3] view, x, y

  NF_HD bool is_valid(const PixelPick& pick) const {
    const int64_t width = images.sizes[2 * pick.view], height = images.sizes[2 * pick.view + 1];
    if (pick.x >= width || pick.y >= height) return false;
    return !images.masks || images.masks[images.starts[pick.view] + pick.y * width + pick.x];
  }

  // Pixel `inner` (0 ... 63) of a block.
  NF_HD PixelPick pixel_of(int64_t block, uint32_t inner) const {
    const int64_t view = view_of_block(blocks.starts, images.n_views, block);
    // 32-bit division: there are fewer than 2^31 blocks
    const uint32_t per_row = static_cast<uint32_t>(blocks_along(images.sizes[2 * view]));
    const uint32_t local = static_cast<uint32_t>(block - blocks.starts[view]);
    return {view, local % per_row * kPixelBlock + inner % kPixelBlock,
            local / per_row * kPixelBlock + inner / kPixelBlock};
  }

  // Whether a draw counts: that of a panorama's pixel only as often as its solid angle is part of one of the horizon.
  NF_HD bool is_taken(const PixelPick& pick, uint64_t ray, uint32_t attempt) const {
    if (cameras.models[pick.view] != kEquirectangular) return true;
    const float* lens = cameras.intrinsics + 4 * pick.view;
    const float latitude = (static_cast<float>(pick.y) + 0.5f - lens[3]) / lens[1];
    return random_uniform(stream, ray, 2 * kPixelAttempts + attempt) < cosine_of_latitude(latitude);
  }

  // How many blocks there are to draw from.
  NF_HD uint32_t n_blocks() const {
    if (blocks.listed) return static_cast<uint32_t>(blocks.n_listed);
    const int64_t last = images.n_views - 1;
    return static_cast<uint32_t>(blocks.starts[last] +
                                 blocks_along(images.sizes[2 * last]) * blocks_along(images.sizes[2 * last + 1]));
  }

  // Rejected pixels are drawn anew, block and all, so that pixels of partly valid blocks are as likely as any other.
  NF_HD PixelPick pick(uint64_t ray) const {
    constexpr uint32_t kInner = kPixelBlock * kPixelBlock;
    PixelPick pick{0, 0, 0};
    int64_t block = 0;
    uint32_t inner = 0;
    const uint32_t n = n_blocks();
    for (uint32_t attempt = 0; attempt < kPixelAttempts; ++attempt) {
      block = random_below(stream, ray, 2 * attempt, n);
      if (blocks.listed) block = blocks.listed[block];
      inner = random_below(stream, ray, 2 * attempt + 1, kInner);
      pick = pixel_of(block, inner);
      if (is_valid(pick) && is_taken(pick, ray, attempt)) return pick;
    }
    for (uint32_t i = 1; i < kInner; ++i) {
      pick = pixel_of(block, (inner + i) % kInner);
      if (is_valid(pick)) return pick;
    }
    return pixel_of(block, 0);  // only for a block that should not have been listed
  }

  NF_HD const Value* values_of(const PixelPick& pick) const {
    const int64_t pixel = images.starts[pick.view] + pick.y * images.sizes[2 * pick.view] + pick.x;
    return images.values + pixel * images.n_channels;
  }

  NF_HD void write(int64_t i, const PixelPick& chosen) const {
    const float spacing = 1.0f / static_cast<float>(side);
    for (int64_t k = 0; k < side * side; ++k) {
      const float x = (static_cast<float>(k % side) + 0.5f) * spacing,
                  y = (static_cast<float>(k / side) + 0.5f) * spacing;
      const int64_t ray = 3 * (i * side * side + k);
      camera_ray(cameras, chosen.view, static_cast<float>(chosen.x) + x, static_cast<float>(chosen.y) + y,
                 origins + ray, directions + ray);
    }
    const Value* value = values_of(chosen);
    const bool is_grey = images.n_channels < 3, has_alpha = images.n_channels % 2 == 0;
    float* target = targets + 4 * i;
    for (int channel = 0; channel < 3; ++channel) target[channel] = color_value(value[is_grey ? 0 : channel]);
    target[3] = has_alpha ? color_value(value[images.n_channels - 1]) : 1.0f;
    picks[3 * i] = static_cast<int32_t>(chosen.view);
    picks[3 * i + 1] = static_cast<int32_t>(chosen.x);
    picks[3 * i + 2] = static_cast<int32_t>(chosen.y);
  }

  NF_HD void operator()(int64_t i) const { write(i, pick(static_cast<uint64_t>(i))); }
};

// Straight alpha over one colour for all or, without it, over a random one for each: rgb = a c + (1 - a) b.
struct OverBackground {
  const float* rgba;   // [n, 4]
  const float* color;  // [3] or null
  uint64_t stream;
  float* rgb;         // [n, 3]
  float* background;  // [n, 3]
  NF_HD void operator()(int64_t i) const {
    const float alpha = rgba[4 * i + 3];
    for (uint32_t c = 0; c < 3; ++c) {
      const float behind = color ? color[c] : random_uniform(stream, static_cast<uint64_t>(i), c);
      background[3 * i + c] = behind;
      rgb[3 * i + c] = alpha * rgba[4 * i + c] + (1.0f - alpha) * behind;
    }
  }
};

}  // namespace nf
