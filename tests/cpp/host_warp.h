// SPDX-License-Identifier: Apache-2.0
// The warp policy of cuda/mma_tile.h on the host: 32 lanes in a loop. The two instructions are written from the PTX
// manual's definitions of their fragments, not from cuda/mma_layout.h, which they check.
#pragma once

#include <array>
#include <type_traits>

#include "core/half.h"
#include "cuda/mma_layout.h"

namespace nf::test {

struct HostWarp {
  template <typename T>
  using Lanes = std::array<T, 32>;

  template <typename F>
  static auto each(const F& f) {
    if constexpr (std::is_void_v<decltype(f(0))>) {
      for (int lane = 0; lane < 32; ++lane) f(lane);
    } else {
      Lanes<decltype(f(0))> values;
      for (int lane = 0; lane < 32; ++lane) values[lane] = f(lane);
      return values;
    }
  }
  template <typename T>
  static const T& at(const Lanes<T>& values, int lane) {
    return values[lane];
  }

  // Two mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32, columns 0 ... 7 and 8 ... 15. Products of halves are exact
  // in float; the order of the sum is this one's own.
  static void mma(Lanes<cuda::Sums>& c, const Lanes<cuda::Words>& a, const Lanes<cuda::Words>& b) {
    float A[16][16], B[16][16];  // B [k][n]
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4, thread = lane % 4;
      for (int i = 0; i < 8; ++i) {  // a0 ... a7: row group, + 8 for 2 <= i % 4; column 2 thread + (i & 1), + 8 from a4
        const int row = (i % 4 < 2) ? group : group + 8, column = thread * 2 + (i & 1) + (i >= 4 ? 8 : 0);
        A[row][column] = half_of(a[lane], i);
      }
      for (int i = 0; i < 8; ++i) {  // b0 ... b3 of both: k = 2 thread + (i & 1), + 8 from b2; n = group
        const int n = i / 4 * 8 + group, k = thread * 2 + (i & 1) + (i % 4 >= 2 ? 8 : 0);
        B[k][n] = half_of(b[lane], i);
      }
    }
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i) {  // c0 ... c3 of both: row group, + 8 from c2; column 2 thread + (i & 1)
        const int row = i % 4 < 2 ? lane / 4 : lane / 4 + 8, column = i / 4 * 8 + lane % 4 * 2 + (i & 1);
        float sum = c[lane].v[i];
        for (int k = 0; k < 16; ++k) sum += A[row][k] * B[k][column];
        c[lane].v[i] = sum;
      }
  }

  // Four movmatrix.sync.aligned.m8n8.trans.b16: lane 4 r + c holds elements (r, 2 c) and (r, 2 c + 1).
  static Lanes<cuda::Words> transpose(const Lanes<cuda::Words>& block) {
    Lanes<cuda::Words> result;
    for (int w = 0; w < 4; ++w) {
      uint16_t quarter[8][8];
      for (int lane = 0; lane < 32; ++lane)
        for (int i = 0; i < 2; ++i)
          quarter[lane / 4][lane % 4 * 2 + i] = static_cast<uint16_t>(block[lane].w[w] >> (16 * i));
      for (int lane = 0; lane < 32; ++lane) {
        const int row = lane / 4, column = lane % 4 * 2;
        result[lane].w[w] = quarter[column][row] | uint32_t(quarter[column + 1][row]) << 16;
      }
    }
    return result;
  }

 private:
  static float half_of(const cuda::Words& words, int i) {
    return to_float(half{static_cast<uint16_t>(words.w[i / 2] >> (16 * (i & 1)))});
  }
};

}  // namespace nf::test
