// SPDX-License-Identifier: Apache-2.0
// What the processor can do and the operating system saves, by CPUID (Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2, CPUID and XGETBV). __builtin_cpu_supports asks a support library of the compiler, which
// not every one brings, and knows a feature by other names elsewhere.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nf {

struct CpuFeatures {
  bool avx2 = false;         // with FMA, F16C, BMI1 and BMI2
  bool avx512 = false;       // F, BW, DQ, VL, and avx2
  bool avx512_bf16 = false;  // and avx512
};

inline CpuFeatures cpu_features() {
  CpuFeatures f;
#if defined(__x86_64__)
  unsigned a, b, c, d;
  const auto bits = [](unsigned of, unsigned wanted) { return (of & wanted) == wanted; };
  constexpr unsigned kFma = 1u << 12, kOsxsave = 1u << 27, kF16c = 1u << 29;         // leaf 1, ecx
  constexpr unsigned kBmi1 = 1u << 3, kAvx2 = 1u << 5, kBmi2 = 1u << 8;              // leaf 7, ebx
  constexpr unsigned kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;  // leaf 7, ebx
  constexpr unsigned kBf16 = 1u << 5;                                                // leaf 7, subleaf 1, eax
  constexpr unsigned kSavesAvx = 0x6, kSavesAvx512 = 0xe6;                           // XCR0
  if (!__get_cpuid(1, &a, &b, &c, &d) || !bits(c, kFma | kOsxsave | kF16c)) return f;
  unsigned saved, high;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  const unsigned last_subleaf = a;
  f.avx2 = bits(saved, kSavesAvx) && bits(b, kBmi1 | kAvx2 | kBmi2);
  f.avx512 = f.avx2 && bits(saved, kSavesAvx512) && bits(b, kF | kDq | kBw | kVl);
  if (f.avx512 && last_subleaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.avx512_bf16 = bits(a, kBf16);
#endif
  return f;
}

}  // namespace nf
