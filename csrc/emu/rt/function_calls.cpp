// Questions about kernels: attributes, opt-ins, occupancy.
#include <algorithm>
#include <mutex>

#include "emu/config.h"
#include "emu/rt/device.h"
#include "emu/rt/error.h"
#include "emu/rt/registry.h"

namespace abi = emu::abi;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

emu::Kernel* usable(const void* function) {
  emu::Kernel* k = emu::find_kernel(function);
  if (k != nullptr && !k->error.empty()) {
    emu::fail(abi::kInvalidPtx, k->error);
    return nullptr;
  }
  return k;
}

int occupancy(int* blocks, const void* function, int block_size, size_t dynamic_shared) {
  const Lock lock(emu::registry().mutex);
  const emu::Kernel* k = usable(function);
  if (k == nullptr) return emu::last_error(false);
  if (block_size <= 0)
    return emu::fail(abi::kInvalidValue, "occupancy: block size must be positive, got " + std::to_string(block_size));
  *blocks = emu::resident_blocks(emu::device(), k->code, static_cast<uint32_t>(block_size), dynamic_shared);
  return abi::kSuccess;
}

}  // namespace

CUDART_API int cudaFuncGetAttributes(abi::FuncAttributes* out, const void* function) {
  const Lock lock(emu::registry().mutex);
  const emu::HostKernel* host = emu::find_host_kernel(function);
  const emu::Kernel* k = usable(function);
  if (k == nullptr) return emu::last_error(false);
  *out = {};
  const emu::Code& code = k->code;
  int threads = static_cast<int>(std::min<uint32_t>(code.max_threads, emu::kThreadsPerBlock));
  while (threads > emu::kLanes && emu::resident_blocks(emu::device(), code, static_cast<uint32_t>(threads), 0) == 0) {
    threads -= emu::kLanes;
  }
  out->sharedSizeBytes = code.shared_bytes;
  out->localSizeBytes = code.local_bytes;
  out->maxThreadsPerBlock = threads;
  out->numRegs = static_cast<int>(code.registers);
  out->ptxVersion = host->binary->for_device().module->target();
  out->binaryVersion = emu::arch_number(emu::config().arch);
  out->maxDynamicSharedSizeBytes = k->max_dynamic_shared;
  out->preferredShmemCarveout = -1;
  return abi::kSuccess;
}

CUDART_API int cudaFuncSetAttribute(const void* function, int attribute, int value) {
  const Lock lock(emu::registry().mutex);
  emu::Kernel* k = usable(function);
  if (k == nullptr) return emu::last_error(false);
  if (attribute != abi::kMaxDynamicSharedMemorySize) return abi::kSuccess;  // carve-out, clusters: hints
  const int most = emu::device().shared_opt_in - static_cast<int>(k->code.shared_bytes);
  if (value < 0 || value > most) {
    return emu::fail(abi::kInvalidValue, "cudaFuncSetAttribute: dynamic shared memory of " + k->name +
                                             " must be 0 to " + std::to_string(most) + " bytes, got " +
                                             std::to_string(value));
  }
  k->max_dynamic_shared = std::max(value, emu::kSharedPerBlock - static_cast<int>(k->code.shared_bytes));
  return abi::kSuccess;
}
CUDART_API int cudaFuncSetCacheConfig(const void*, int) { return abi::kSuccess; }

CUDART_API int cudaFuncGetName(const char** name, const void* function) {
  const Lock lock(emu::registry().mutex);
  const emu::HostKernel* k = emu::find_host_kernel(function);
  if (k == nullptr) return emu::fail(abi::kInvalidDeviceFunction, "cudaFuncGetName: function must be a kernel");
  *name = k->name.c_str();
  return abi::kSuccess;
}

CUDART_API int cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int block_size,
                                                             size_t dynamic_shared) {
  return occupancy(blocks, function, block_size, dynamic_shared);
}
CUDART_API int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int block_size,
                                                                      size_t dynamic_shared, unsigned) {
  return occupancy(blocks, function, block_size, dynamic_shared);
}
CUDART_API int cudaOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, const void* function, int blocks,
                                                         int block_size) {
  const Lock lock(emu::registry().mutex);
  const emu::Kernel* k = usable(function);
  if (k == nullptr) return emu::last_error(false);
  if (blocks <= 0 || block_size <= 0)
    return emu::fail(abi::kInvalidValue, "occupancy: blocks and block size must be positive");
  const emu::Device& d = emu::device();
  const int64_t each =
      d.shared_per_sm / blocks / 128 * 128 - emu::kSharedReserved - static_cast<int64_t>(k->code.shared_bytes);
  *bytes =
      static_cast<size_t>(std::clamp<int64_t>(each, 0, d.shared_opt_in - static_cast<int64_t>(k->code.shared_bytes)));
  return abi::kSuccess;
}
CUDART_API int cudaOccupancyMaxActiveClusters(int* clusters, const void*, const abi::LaunchConfig*) {
  *clusters = 0;
  return emu::fail(abi::kNotSupported, "cudaOccupancyMaxActiveClusters: the emulator has no thread block clusters");
}
