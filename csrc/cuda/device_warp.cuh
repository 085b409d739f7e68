// SPDX-License-Identifier: Apache-2.0
// The warp policy of mma_tile.h on the GPU: this thread is one lane, the products are mma.sync (sm_80 and later).
// The instructions are those of all lanes of a warp: volatile, so that none is moved into a branch that some lanes
// take.
#pragma once

#include <cuda_runtime.h>

#include "cuda/mma_layout.h"

namespace nf::cuda {

struct DeviceWarp {
  template <typename T>
  using Lanes = T;

  template <typename F>
  static NF_DEVICE auto each(const F& f) {
    return f(static_cast<int>(threadIdx.x) & 31);
  }
  template <typename T>
  static NF_DEVICE const T& at(const T& value, int) {
    return value;
  }

#ifdef __CUDACC__
  static NF_DEVICE void mma(Sums& c, const Words& a, const Words& b) {
    mma_half(c.v, a.w, b.w);
    mma_half(c.v + 4, a.w, b.w + 2);
  }

  static NF_DEVICE Words transpose(Words block) {
#pragma unroll
    for (uint32_t& word : block.w) asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(word));
    return block;
  }

  // Brings what lies there into the second cache, without waiting.
  static NF_DEVICE void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" : : "l"(p)); }

 private:
  static NF_DEVICE void mma_half(float* c, const uint32_t* a, const uint32_t* b) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else  // the tests run kernels on the host (tests/cuda/host)
  static void mma(Sums& c, const Words& a, const Words& b) { host::warp_mma(c.v, a.w, b.w); }
  static Words transpose(Words block) {
    host::warp_transpose(block.w);
    return block;
  }
  static void prefetch(const void*) {}
#endif
};

}  // namespace nf::cuda
