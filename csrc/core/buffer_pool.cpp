// SPDX-License-Identifier: Apache-2.0
#include "core/buffer_pool.h"

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nf {
namespace {

constexpr size_t kPage = size_t(2) << 20;  // of huge pages
constexpr size_t kHeader = 64;             // holds the capacity, keeps the alignment

struct Buffer {
  void* base;
  size_t capacity;  // with the header, which repeats it
};

class BufferPool {
 public:
  void* acquire(size_t bytes) {
    const size_t wanted = (bytes + kHeader + kPage - 1) / kPage * kPage;
    void* base = take_idle(wanted);
    if (!base) base = allocate(wanted);
    return static_cast<char*>(base) + kHeader;
  }

  void release(void* data) noexcept {
    void* base = static_cast<char*>(data) - kHeader;
    const Buffer buffer{base, *static_cast<size_t*>(base)};
    std::lock_guard<std::mutex> lock(mutex_);
    if (buffer.capacity > kMaxIdleBytes) return std::free(base);
    idle_bytes_ += buffer.capacity;
    idle_.push_back(buffer);
    while (idle_bytes_ > kMaxIdleBytes) drop(0);
  }

  size_t idle_bytes() {
    std::lock_guard<std::mutex> lock(mutex_);
    return idle_bytes_;
  }

 private:
  static void* allocate(size_t capacity) {
    void* base = std::aligned_alloc(kPage, capacity);
    if (!base) throw std::bad_alloc();
#if defined(__linux__)
    madvise(base, capacity, MADV_HUGEPAGE);  // advice: a refusal changes nothing but speed
#endif
    *static_cast<size_t*>(base) = capacity;
    return base;
  }

  // The smallest idle buffer that fits without wasting more than it holds; null if there is none.
  void* take_idle(size_t wanted) {
    std::lock_guard<std::mutex> lock(mutex_);
    size_t best = idle_.size();
    for (size_t i = 0; i < idle_.size(); ++i)
      if (idle_[i].capacity >= wanted && idle_[i].capacity <= 2 * wanted &&
          (best == idle_.size() || idle_[i].capacity < idle_[best].capacity))
        best = i;
    if (best == idle_.size()) return nullptr;
    void* base = idle_[best].base;
    idle_bytes_ -= idle_[best].capacity;
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(best));
    return base;
  }

  void drop(size_t i) {
    std::free(idle_[i].base);
    idle_bytes_ -= idle_[i].capacity;
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
  }

  std::mutex mutex_;
  std::vector<Buffer> idle_;  // least recently used first
  size_t idle_bytes_ = 0;
};

// Never destroyed: tensors may be freed after static destruction.
BufferPool& pool() {
  static BufferPool* instance = new BufferPool;
  return *instance;
}

}  // namespace

void* acquire_buffer(size_t bytes) { return pool().acquire(bytes); }
void release_buffer(void* data) noexcept { pool().release(data); }
size_t idle_buffer_bytes() { return pool().idle_bytes(); }

}  // namespace nf
