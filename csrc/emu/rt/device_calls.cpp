// Questions about the device, all answered from the table of rt/device.cpp.
#include <cstdio>
#include <cstring>

#include "emu/rt/device.h"
#include "emu/rt/error.h"
#include "emu/rt/record.h"

namespace abi = emu::abi;

namespace {

constexpr int kCudaVersion = 13000;
constexpr int64_t kConstantBytes = 65536;
constexpr int kPitch = 0x7fffffff;

int check(int device) {
  if (device == 0) return abi::kSuccess;
  return emu::fail(abi::kInvalidDevice, "device must be 0, the only one emulated, got " + std::to_string(device));
}

// cudaDeviceAttr: those whose answer is not zero. Textures, managed memory on demand, clusters and peers there are
// none.
bool attribute(const emu::Device& d, int id, int64_t* value) {
  switch (id) {
    case 1: *value = emu::kThreadsPerBlock; return true;
    case 2:
    case 3: *value = 1024; return true;
    case 4: *value = 64; return true;
    case 5: *value = 0x7fffffff; return true;
    case 6:
    case 7: *value = 65535; return true;
    case 8: *value = emu::kSharedPerBlock; return true;
    case 9: *value = kConstantBytes; return true;
    case 10: *value = emu::kLanes; return true;
    case 11: *value = kPitch; return true;
    case 12:
    case 82: *value = emu::kRegistersPerSm; return true;
    case 13: *value = int64_t{d.clock_mhz} * 1000; return true;
    case 14: *value = 512; return true;  // texture alignment, which cudaMallocPitch follows
    case 16: *value = emu::multiprocessors(d); return true;
    case 19: *value = 1; return true;  // can map host memory
    case 31: *value = 1; return true;  // concurrent kernels
    case 36: *value = int64_t{d.memory_mhz} * 1000; return true;
    case 37: *value = d.bus_bits; return true;
    case 38: *value = int64_t{d.l2_kb} * 1024; return true;
    case 39: *value = d.threads_per_sm; return true;
    case 40: *value = 1; return true;  // copy engines
    case 41: *value = 1; return true;  // unified addressing
    case 51: *value = 32; return true;
    case 75: *value = d.arch / 10; return true;
    case 76: *value = d.arch % 10; return true;
    case 78:
    case 79:
    case 80: *value = 1; return true;
    case 81: *value = d.shared_per_sm; return true;
    case 83: *value = 1; return true;  // managed memory: the host's
    case 90: *value = 1; return true;  // compute preemption
    case 95: *value = 1; return true;  // cooperative launch
    case 97: *value = d.shared_opt_in; return true;
    case 99: *value = 1; return true;  // host register
    case 106: *value = d.blocks_per_sm; return true;
    case 111: *value = emu::kSharedReserved; return true;
    case 115: *value = 0; return true;  // memory pools
    default: *value = 0; return id > 0 && id <= 147;
  }
}

int get(int id) {
  int64_t value = 0;
  attribute(emu::device(), id, &value);
  return static_cast<int>(value);
}

}  // namespace

CUDART_API int cudaGetDeviceCount(int* count) {
  *count = 1;
  return abi::kSuccess;
}
CUDART_API int cudaGetDevice(int* device) {
  *device = 0;
  return abi::kSuccess;
}
CUDART_API int cudaSetDevice(int device) { return check(device); }
CUDART_API int cudaInitDevice(int device, unsigned, unsigned) { return check(device); }
CUDART_API int cudaGetDeviceFlags(unsigned* flags) {
  *flags = 0;
  return abi::kSuccess;
}
CUDART_API int cudaSetDeviceFlags(unsigned) { return abi::kSuccess; }
CUDART_API int cudaDeviceSynchronize() {
  emu::add_wait();
  return emu::device_error();
}
CUDART_API int cudaDeviceReset() {
  emu::clear_device_error();
  return abi::kSuccess;
}
CUDART_API int cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = 0;
  return abi::kSuccess;
}
CUDART_API int cudaDriverGetVersion(int* version) {
  *version = kCudaVersion;
  return abi::kSuccess;
}
CUDART_API int cudaRuntimeGetVersion(int* version) {
  *version = kCudaVersion;
  return abi::kSuccess;
}

CUDART_API int cudaDeviceGetAttribute(int* value, int id, int device) {
  if (const int e = check(device); e != abi::kSuccess) return e;
  int64_t v = 0;
  if (!attribute(emu::device(), id, &v)) {
    return emu::fail(abi::kInvalidValue, "cudaDeviceGetAttribute: attribute must be known, got " + std::to_string(id));
  }
  *value = static_cast<int>(v);
  return abi::kSuccess;
}

CUDART_API int cudaGetDeviceProperties(abi::DeviceProp* p, int device) {
  if (const int e = check(device); e != abi::kSuccess) return e;
  const emu::Device& d = emu::device();
  *p = {};
  std::snprintf(p->name, sizeof p->name, "lowbit emulator as %s", d.board);
  p->totalGlobalMem = static_cast<size_t>(d.memory_mb) << 20;
  p->sharedMemPerBlock = emu::kSharedPerBlock;
  p->regsPerBlock = p->regsPerMultiprocessor = emu::kRegistersPerSm;
  p->warpSize = emu::kLanes;
  p->memPitch = kPitch;
  p->maxThreadsPerBlock = emu::kThreadsPerBlock;
  for (int i = 0; i < 3; ++i) {
    p->maxThreadsDim[i] = get(2 + i);
    p->maxGridSize[i] = get(5 + i);
  }
  p->totalConstMem = kConstantBytes;
  p->major = d.arch / 10;
  p->minor = d.arch % 10;
  p->textureAlignment = 512;
  p->texturePitchAlignment = 32;
  p->multiProcessorCount = emu::multiprocessors(d);
  p->canMapHostMemory = p->concurrentKernels = p->asyncEngineCount = p->unifiedAddressing = 1;
  p->memoryBusWidth = d.bus_bits;
  p->l2CacheSize = d.l2_kb * 1024;
  p->maxThreadsPerMultiProcessor = d.threads_per_sm;
  p->streamPrioritiesSupported = p->globalL1CacheSupported = p->localL1CacheSupported = 1;
  p->sharedMemPerMultiprocessor = static_cast<size_t>(d.shared_per_sm);
  p->managedMemory = p->computePreemptionSupported = p->cooperativeLaunch = p->hostRegisterSupported = 1;
  p->sharedMemPerBlockOptin = static_cast<size_t>(d.shared_opt_in);
  p->maxBlocksPerMultiProcessor = d.blocks_per_sm;
  p->reservedSharedMemPerBlock = emu::kSharedReserved;
  return abi::kSuccess;
}

// Programs that look the driver up get "not found", as on a driver that lacks the entry.
CUDART_API int cudaGetDriverEntryPoint(const char*, void** function, unsigned long long, int* status) {
  *function = nullptr;
  if (status != nullptr) *status = 1;
  return abi::kSuccess;
}
CUDART_API int cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned, unsigned long long,
                                                int* status) {
  *function = nullptr;
  if (status != nullptr) *status = 1;
  return abi::kSuccess;
}
