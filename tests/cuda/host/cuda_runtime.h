// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header where the tests compile kernels with a C++ compiler and run them on the host: a block at
// a time, every thread a coroutine that runs until it waits for its warp or its block, and warps one after another,
// each as far as it comes alone. What is tested so are indices, places, sums and cuts, and barriers that lack between
// warps; not memory order, not speed, and not what nvcc makes of the code. A kernel in which not all threads reach a
// barrier ends the program.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "core/half.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

struct dim3 {
  unsigned x = 1, y = 1;
};

namespace host {

// What a device of compute capability 9.0 allows. A launch beyond it ends the program.
constexpr int kMaxSharedBytes = 227 * 1024;  // of one block
constexpr int64_t kMaxBlocks = 0x7fffffff;
constexpr int kMaxRows = 65535;

struct Barrier {
  int n_waiting = 0, n_expected = 0;
  uint64_t generation = 0;
};

struct Thread {
  ucontext_t beginning;
  jmp_buf place;  // where it waits
  std::unique_ptr<char[]> stack;
  bool has_begun = false, is_done = false;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Barrier> warps;
  Barrier all;
  std::vector<uint64_t> slots;  // what threads exchange
  std::vector<char> shared;     // dynamic shared memory
  jmp_buf scheduler;
  std::function<void()> body;
  bool has_progress = false;
};
inline Block block;
inline dim3 thread_index, block_index, grid_size;

inline void arrive(Barrier& barrier) {
  if (barrier.n_waiting < barrier.n_expected) return;
  barrier.n_waiting = 0;
  ++barrier.generation;
  block.has_progress = true;
}

// A thread begins as a context of its own stack. From then on jumps lead there and back: swapcontext asks the system
// for signal masks at every turn, which was a third of the time.
[[gnu::noinline]] inline void enter(Thread& thread) {
  if (_setjmp(block.scheduler) != 0) return;
  if (thread.has_begun) _longjmp(thread.place, 1);
  thread.has_begun = true;
  setcontext(&thread.beginning);
}
[[gnu::noinline]] inline void leave(Thread& thread) {
  if (_setjmp(thread.place) == 0) _longjmp(block.scheduler, 1);
}

inline void wait(Barrier& barrier) {
  const uint64_t generation = barrier.generation;
  const unsigned thread = thread_index.x;
  ++barrier.n_waiting;
  arrive(barrier);
  while (barrier.generation == generation) {
    leave(block.threads[thread]);
    thread_index.x = thread;
  }
}

inline void thread_main() {
  const unsigned thread = thread_index.x;
  block.body();
  block.threads[thread].is_done = block.has_progress = true;
  for (Barrier* barrier : {&block.warps[thread / 32], &block.all}) {
    --barrier->n_expected;
    if (barrier->n_waiting > 0) arrive(*barrier);
  }
  leave(block.threads[thread]);  // for good
}

// As far as the warp comes without the others: what it reads or writes too early for want of a barrier then shows. Adds
// its threads that are not done to *n_left; whether it came any further.
inline bool run_warp(int first, int* n_left) {
  const int end = std::min(first + 32, static_cast<int>(block.threads.size()));
  for (bool has_progress = false;; has_progress = true) {
    block.has_progress = false;
    int n_waiting = 0;
    for (int i = first; i < end; ++i) {
      if (block.threads[i].is_done) continue;
      thread_index.x = static_cast<unsigned>(i);
      enter(block.threads[i]);
      n_waiting += !block.threads[i].is_done;
    }
    if (block.has_progress) continue;
    *n_left += n_waiting;
    return has_progress;
  }
}

template <typename... Parameters, typename... Arguments>
void run(const char* name, void (*kernel)(Parameters...), int64_t n_blocks, int n_rows, int n_threads, int shared_bytes,
         Arguments... arguments) {
  constexpr size_t kStack = 1 << 16;
  if (shared_bytes > kMaxSharedBytes || n_blocks > kMaxBlocks || n_rows > kMaxRows || n_threads > 1024) {
    std::fprintf(stderr, "%s: no device launches %lld x %d blocks of %d threads with %d bytes of shared memory\n", name,
                 (long long)n_blocks, n_rows, n_threads, shared_bytes);
    std::abort();
  }
  block.threads.resize(static_cast<size_t>(n_threads));
  block.slots.resize(static_cast<size_t>(n_threads));
  block.body = [=] { kernel(arguments...); };
  grid_size = {static_cast<unsigned>(n_blocks), static_cast<unsigned>(n_rows)};
  for (int64_t b = 0; b < n_blocks * n_rows; ++b) {
    block_index = {static_cast<unsigned>(b % n_blocks), static_cast<unsigned>(b / n_blocks)};
    block.shared.assign(static_cast<size_t>(shared_bytes), char(0x5a));
    block.all = {0, n_threads, 0};
    block.warps.assign(static_cast<size_t>(n_threads + 31) / 32, Barrier{0, 32, 0});
    for (Thread& thread : block.threads) {
      if (!thread.stack) thread.stack = std::make_unique<char[]>(kStack);
      getcontext(&thread.beginning);
      thread.beginning.uc_stack.ss_sp = thread.stack.get();
      thread.beginning.uc_stack.ss_size = kStack;
      thread.has_begun = thread.is_done = false;
      makecontext(&thread.beginning, thread_main, 0);
    }
    for (int n_left = n_threads; n_left > 0;) {
      n_left = 0;
      bool has_progress = false;
      for (int first = 0; first < n_threads; first += 32) has_progress |= run_warp(first, &n_left);
      if (n_left > 0 && !has_progress) {
        std::fprintf(stderr, "%s: threads of block %lld wait for others that never come\n", name, (long long)b);
        std::abort();
      }
    }
  }
}

// Calls read(values of all threads of the warp, this lane) once all lanes have given theirs.
template <typename T, typename Read>
auto exchange(T value, const Read& read) {
  static_assert(sizeof(T) <= 8);
  const unsigned lane = thread_index.x % 32, first = thread_index.x - lane;
  std::memcpy(&block.slots[thread_index.x], &value, sizeof value);
  wait(block.warps[first / 32]);
  const auto result = read(
      [&](unsigned other) {
        T v;
        std::memcpy(&v, &block.slots[first + other], sizeof v);
        return v;
      },
      lane);
  wait(block.warps[first / 32]);
  return result;
}

}  // namespace host

#define threadIdx host::thread_index
#define blockIdx host::block_index
#define gridDim host::grid_size

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
  return host::exchange(value, [=](auto at, unsigned) { return at(static_cast<unsigned>(lane)); });
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int offset) {
  return host::exchange(value, [=](auto at, unsigned lane) {
    return at(lane < static_cast<unsigned>(offset) ? lane : lane - static_cast<unsigned>(offset));
  });
}
template <typename T>
T __shfl_down_sync(unsigned, T value, int offset) {
  return host::exchange(value, [=](auto at, unsigned lane) {
    const unsigned other = lane + static_cast<unsigned>(offset);
    return at(other < 32 ? other : lane);
  });
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int bits) {
  return host::exchange(value, [=](auto at, unsigned lane) { return at(lane ^ static_cast<unsigned>(bits)); });
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  return host::exchange(predicate, [](auto at, unsigned) {
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < 32; ++lane) ballot |= unsigned(at(lane)) << lane;
    return ballot;
  });
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline bool __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
inline void __syncwarp() { host::wait(host::block.warps[host::thread_index.x / 32]); }
inline uint32_t __reduce_max_sync(unsigned, uint32_t value) {
  return host::exchange(value, [](auto at, unsigned) {
    uint32_t largest = 0;
    for (unsigned lane = 0; lane < 32; ++lane) largest = at(lane) > largest ? at(lane) : largest;
    return largest;
  });
}
inline long long __double2ll_rn(double x) { return std::llrint(x); }
inline double __hiloint2double(int high, int low) {
  const uint64_t bits = uint64_t(uint32_t(high)) << 32 | uint32_t(low);
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline void __syncthreads() { host::wait(host::block.all); }
inline int __syncthreads_count(bool predicate) {
  host::block.slots[host::thread_index.x] = predicate;
  __syncthreads();
  int count = 0;
  for (const uint64_t slot : host::block.slots) count += slot != 0;
  __syncthreads();
  return count;
}

template <typename T>
T atomicMax(T* p, T value) {
  const T before = *p;
  if (before < value) *p = value;
  return before;
}
template <typename T>
T atomicAdd(T* p, T value) {
  const T before = *p;
  *p = before + value;
  return before;
}

namespace host {

inline float half_value(uint64_t words, int i) {  // of two words
  return nf::to_float(nf::half{static_cast<uint16_t>(words >> 16 * i)});
}
// All lanes' words w and w + 1.
inline std::array<uint64_t, 32> words_of_warp(const uint32_t* w) {
  return exchange(uint64_t(w[0]) | uint64_t(w[1]) << 32, [](auto at, unsigned) {
    std::array<uint64_t, 32> all;
    for (unsigned lane = 0; lane < 32; ++lane) all[lane] = at(lane);
    return all;
  });
}

// Two mma.m16n8k16, columns 0 ... 7 and 8 ... 15, by the manual's fragments (tests/cpp/host_warp.h has all lanes at
// once).
inline void warp_mma(float* c, const uint32_t* a, const uint32_t* b) {
  const std::array<uint64_t, 32> a_words[2] = {words_of_warp(a), words_of_warp(a + 2)};
  const std::array<uint64_t, 32> b_words[2] = {words_of_warp(b), words_of_warp(b + 2)};
  const int lane = static_cast<int>(thread_index.x % 32);
  for (int i = 0; i < 8; ++i) {
    const int row = lane / 4 + (i % 4 < 2 ? 0 : 8), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 16; ++k) {
      const int half = (k & 1) + (k >= 8 ? 4 : 0), thread = k % 8 / 2;
      const float left = half_value(a_words[half / 4][row % 8 * 4 + thread], half % 4 + (row >= 8 ? 2 : 0));
      const float right = half_value(b_words[i / 4][column * 4 + thread], (k & 1) + (k >= 8 ? 2 : 0));
      c[i] += left * right;
    }
  }
}

// Four movmatrix.m8n8.trans.b16.
inline void warp_transpose(uint32_t* block) {
  for (int w = 0; w < 4; w += 2) {
    const std::array<uint64_t, 32> all = words_of_warp(block + w);
    const int row = static_cast<int>(thread_index.x % 32) / 4, column = static_cast<int>(thread_index.x % 4) * 2;
    for (int i = 0; i < 2; ++i) {
      const auto element = [&](int r, int c) {
        return uint32_t(all[r * 4 + c / 2] >> (32 * i + 16 * (c & 1)) & 0xffff);
      };
      block[w + i] = element(column, row) | element(column + 1, row) << 16;
    }
  }
}

}  // namespace host

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorNoDevice };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
};
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "the host stands in for the device"; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* n) { return *n = 0, cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t) {
  return std::memset(p, value, n), cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrMultiProcessorCount ? 2 : host::kMaxSharedBytes;
  return cudaSuccess;
}
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* of, const void*) { return *of = {0}, cudaSuccess; }
inline cudaError_t cudaFuncSetAttribute(const void*, int, int) { return cudaSuccess; }
template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, Kernel, int, int) {
  return *n = 1, cudaSuccess;
}

namespace nf::cuda {
template <typename T>
T* dynamic_shared() {
  return reinterpret_cast<T*>(host::block.shared.data());
}
}  // namespace nf::cuda
