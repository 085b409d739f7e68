// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/launch.h"
#include "cuda/stream.h"

namespace nf::cuda {
namespace {

struct Place {
  int device = 0;
  cudaStream_t stream = nullptr;
};
thread_local Place place;

}  // namespace

void use(int device, uintptr_t stream) { place = {device, reinterpret_cast<cudaStream_t>(stream)}; }

UseDevice::UseDevice() { check(cudaSetDevice(place.device), "cudaSetDevice"); }

int device_count(const char** reason) {
  int n = 0;
  const cudaError_t error = cudaGetDeviceCount(&n);
  if (error == cudaSuccess && n > 0) return n;
  *reason = cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error);
  cudaGetLastError();  // an error that was reported must not surface again at the next launch
  return 0;
}

static int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}
int n_multiprocessors() { return attribute(cudaDevAttrMultiProcessorCount); }
int max_shared_bytes() { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

cudaStream_t current_stream() { return place.stream; }

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is thrown must not surface again at the next launch
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

void allow_all_shared(const char* name, const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<int, const void*>> allowed;  // by device
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), name);
  const std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({device, kernel})) return;
  cudaFuncAttributes attributes;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  check(cudaFuncGetAttributes(&attributes, kernel), name);
  bytes -= static_cast<int>(attributes.sharedSizeBytes);  // what the kernel has without asking
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  allowed.insert({device, kernel});
}

}  // namespace nf::cuda
