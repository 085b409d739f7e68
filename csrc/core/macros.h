// SPDX-License-Identifier: Apache-2.0
// Markers shared by host and device code.
#pragma once

#ifdef __CUDACC__
#define NF_HD __host__ __device__ __forceinline__
#define NF_DEVICE __device__ __forceinline__
#define NF_UNROLL _Pragma("unroll")  // loops over registers: an index at run time would put them into memory
#define NF_ROLL _Pragma("unroll 1")  // loops whose copies would need more registers than there are
#else
#define NF_HD inline __attribute__((always_inline))
#define NF_DEVICE inline  // device code that host tests run lane by lane
#define NF_UNROLL
#define NF_ROLL
#endif

#define NF_RESTRICT __restrict__

// The namespace of the backend that is being built: csrc/ops declares what each operator's backends define.
#ifdef NF_CUDA
#define NF_BACKEND cuda
#else
#define NF_BACKEND cpu
#endif
