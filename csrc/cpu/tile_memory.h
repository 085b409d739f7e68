// SPDX-License-Identifier: Apache-2.0
// How kernels that work tile by tile keep memory from stalling arithmetic: prefetch of the next tile, stores past the
// caches, and buffers that a thread keeps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "core/macros.h"
#include "cpu/mlp_tile.h"

namespace nf::cpu {

// Brings what the next tile reads into the second cache, spread evenly over `n_steps` pauses in the arithmetic of this
// tile. Read only when needed, it would stall a small MLP for a third of its time.
class NextTile {
 public:
  explicit NextTile(int64_t n_steps) : n_steps_(std::max<int64_t>(n_steps, 1)) {}

  // `rows` rows of `width` values; nothing for rows <= 0. At most kMaxRanges times.
  template <typename T>
  void add(const T* data, int64_t rows, int64_t width) {
    const int64_t bytes = rows * width * static_cast<int64_t>(sizeof(T));
    if (bytes <= 0) return;
    const char* begin = reinterpret_cast<const char*>(data);
    ranges_[n_ranges_++] = {begin, begin + bytes};
    n_lines_ += (bytes + kLine - 1) / kLine;
    lines_per_step_ = (n_lines_ + n_steps_ - 1) / n_steps_;
  }

  void step(int n = 1) {
    for (int64_t i = n * lines_per_step_; i > 0 && current_ < n_ranges_; --i) {
      Range& range = ranges_[current_];
      __builtin_prefetch(range.cursor, 0, 2);
      range.cursor += kLine;
      if (range.cursor >= range.end) ++current_;
    }
  }

  static constexpr int kMaxRanges = 3;

 private:
  static constexpr int64_t kLine = 64;
  struct Range {
    const char* cursor;
    const char* end;
  };
  Range ranges_[kMaxRanges];
  int n_ranges_ = 0, current_ = 0;
  int64_t n_lines_ = 0, lines_per_step_ = 0, n_steps_;
};

// Goes on with the prefetches of the next tile after every few rows.
template <typename T, typename Inner>
struct PrefetchingEpilogue {
  Inner inner;
  NextTile* next;
  NF_HD Vector<T> operator()(Vector<T> v, int64_t row, int64_t column) const { return inner(v, row, column); }
  NF_HD void after(int n_rows) const { next->step(n_rows); }
};

// Stores past the caches, for what is read again only after much else; p is aligned to a vector.
template <typename T>
NF_HD void stream(T* p, Vector<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(reinterpret_cast<float*>(p), (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(reinterpret_cast<float*>(p), (__m256)v);
#elif defined(__x86_64__)
  _mm_stream_ps(reinterpret_cast<float*>(p), (__m128)v);
#else
  detail::store_vector(p, v);
#endif
}

// Whether p begins a cache line.
template <typename T>
bool is_line(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % 64 == 0;
}

// n is a multiple of the vector width.
template <typename T>
void stream_copy(const T* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; i += kWidth<T>) stream(to + i, detail::load_vector(from + i));
}

// Makes streamed stores visible before whatever the thread signals next.
NF_HD void finish_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Memory of one thread, aligned to 64 bytes, that grows and stays, so that no page of it is faulted in twice. Declare
// it thread_local where it is used; contents are arbitrary.
class ThreadMemory {
 public:
  ThreadMemory() = default;
  ThreadMemory(const ThreadMemory&) = delete;
  ThreadMemory& operator=(const ThreadMemory&) = delete;
  ~ThreadMemory() { std::free(data_); }

  template <typename T>
  T* at_least(int64_t n) {
    const size_t wanted = (static_cast<size_t>(n) * sizeof(T) + 63) / 64 * 64;
    if (wanted > bytes_) {
      std::free(data_);
      bytes_ = 0;
      data_ = std::aligned_alloc(64, wanted);
      if (!data_) throw std::bad_alloc();
      bytes_ = wanted;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace nf::cpu
