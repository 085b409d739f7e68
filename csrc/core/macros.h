// SPDX-License-Identifier: Apache-2.0
// Markers shared by host and device code.
#pragma once

#ifdef __CUDACC__
#define NF_HD __host__ __device__ __forceinline__
#define NF_DEVICE __device__ __forceinline__
#else
#define NF_HD inline __attribute__((always_inline))
#define NF_DEVICE inline  // device code that host tests run lane by lane
#endif

#define NF_RESTRICT __restrict__

// The namespace of the backend that is being built: csrc/ops declares what each operator's backends define.
#ifdef NF_CUDA
#define NF_BACKEND cuda
#else
#define NF_BACKEND cpu
#endif
