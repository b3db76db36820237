#include "cuda/arch.h"

#include <cuda_runtime_api.h>

#include <string>

namespace lowbit::cuda {
namespace {

constexpr Arch kBuilt[] = {LOWBIT_CUDA_ARCHS};

bool runs(const Arch& code, int sm) {
  if (code.suffix == 'a') return sm == code.sm;
  return sm / 10 == code.sm / 10 && sm >= code.sm;
}

int rank(char suffix) { return suffix == 'a' ? 2 : suffix == 'f' ? 1 : 0; }

std::string list(BuiltArchs built) {
  std::string names;
  for (int i = 0; i < built.count; ++i) {
    names += (i ? ", sm_" : "sm_") + std::to_string(built.rows[i].sm);
    if (built.rows[i].suffix) names += built.rows[i].suffix;
  }
  return names;
}

}  // namespace

BuiltArchs built_archs() { return {kBuilt, static_cast<int>(sizeof(kBuilt) / sizeof(kBuilt[0]))}; }

const Arch* select_arch(BuiltArchs built, int sm) {
  const Arch* best = nullptr;
  for (int i = 0; i < built.count; ++i) {
    const Arch& a = built.rows[i];
    if (!runs(a, sm)) continue;
    if (best == nullptr || a.sm > best->sm || (a.sm == best->sm && rank(a.suffix) > rank(best->suffix))) best = &a;
  }
  return best;
}

Status require_arch(const char* op, int sm, Arch* code) {
  const Arch* found = select_arch(built_archs(), sm);
  if (found == nullptr) {
    return unsupported(op, ": the device must be one that the kernels were built for (", list(built_archs()),
                       "), got sm_", sm, "; build with LOWBIT_CUDA_ARCHS=", sm, sm / 10 == 12 ? "f" : "",
                       " or move the tensors to the CPU");
  }
  *code = *found;
  return Status();
}

Status current_device(const char* op, Device* device) {
  int major = 0, minor = 0, multiprocessors = 0, per_block = 0, per_multiprocessor = 0;
  cudaError_t error = cudaGetDevice(&device->index);
  const struct {
    int* value;
    cudaDeviceAttr attribute;
  } wanted[] = {
      {&major, cudaDevAttrComputeCapabilityMajor},
      {&minor, cudaDevAttrComputeCapabilityMinor},
      {&multiprocessors, cudaDevAttrMultiProcessorCount},
      {&per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin},
      {&per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor},
  };
  for (const auto& w : wanted) {
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(w.value, w.attribute, device->index);
  }
  if (error != cudaSuccess) {
    return unsupported(op, ": the device must be a CUDA device that answers, got ", cudaGetErrorString(error),
                       "; see nvidia-smi");
  }
  device->sm = 10 * major + minor;
  device->multiprocessors = multiprocessors;
  device->shared_per_block = per_block;
  device->shared_per_multiprocessor = per_multiprocessor;
  return require_arch(op, device->sm, &device->code);
}

}  // namespace lowbit::cuda
