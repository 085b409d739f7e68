// SPDX-License-Identifier: Apache-2.0
// What the native tests need of a framework: checks that count, and a non-zero exit when one failed.
#pragma once

#include <cstdio>
#include <vector>

#include "core/rng.h"

namespace nf::test {

inline int failures = 0;

inline int finish(const char* name) {
  std::printf("%s: %s (%d failed checks)\n", name, failures ? "FAILED" : "ok", failures);
  return failures != 0;
}

// Uniform values in [low, high). Vectors are exactly as long as asked, so that the address sanitizer sees every
// access past the end.
inline std::vector<float> uniform(int64_t n, float low, float high, uint64_t seed) {
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = low + (high - low) * random_uniform(seed, i, 0);
  return values;
}

}  // namespace nf::test

#define CHECK(condition)                                                                 \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      ++nf::test::failures;                                                              \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                                    \
  } while (0)
