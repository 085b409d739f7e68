// SPDX-License-Identifier: Apache-2.0
// Memory for large outputs, kept when it is given back. The C library returns large blocks to the system at once, and a
// fresh one costs a page fault and a zeroing per 4 KB: for the saved activations of a training step more than the
// arithmetic. Thread-safe.
#pragma once

#include <cstddef>

namespace nf {

// At least `bytes` of memory with arbitrary contents, aligned to 64 bytes; throws std::bad_alloc.
void* acquire_buffer(size_t bytes);

// Takes back what acquire_buffer returned. Up to kMaxIdleBytes are kept, the least recently used are freed first.
void release_buffer(void* data) noexcept;

constexpr size_t kMaxIdleBytes = size_t(256) << 20;

size_t idle_buffer_bytes();

}  // namespace nf
