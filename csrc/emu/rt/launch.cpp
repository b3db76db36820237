#include "emu/rt/launch.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>

#include "emu/config.h"
#include "emu/rt/record.h"
#include "emu/rt/registry.h"

namespace emu {
namespace {

constexpr uint32_t kMostBlockZ = 64, kMostGridYz = 65535, kMostGridX = 0x7fffffff;

std::string text(const abi::Dim3& d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// The driver's limits: CUDA C++ Programming Guide 13.0, technical specifications.
abi::Error judge(const Kernel& k, const LaunchShape& s) {
  const uint64_t threads = uint64_t{s.block.x} * s.block.y * s.block.z;
  if (s.grid.x == 0 || s.grid.y == 0 || s.grid.z == 0 || s.grid.x > kMostGridX || s.grid.y > kMostGridYz ||
      s.grid.z > kMostGridYz) {
    return fail(abi::kInvalidConfiguration,
                k.name + ": grid must be 1 to (2147483647, 65535, 65535), got " + text(s.grid));
  }
  if (threads == 0 || threads > static_cast<uint64_t>(kThreadsPerBlock) || s.block.z > kMostBlockZ) {
    return fail(abi::kInvalidConfiguration,
                k.name + ": block must be 1 to 1024 threads, at most 64 along z, got " + text(s.block));
  }
  if (threads > k.code.max_threads) {
    return fail(abi::kLaunchOutOfResources, k.name + ": block must be at most the " +
                                                std::to_string(k.code.max_threads) +
                                                " threads of its launch bounds, got " + std::to_string(threads));
  }
  if (s.dynamic_shared > static_cast<uint64_t>(k.max_dynamic_shared) ||
      k.code.dynamic_offset + s.dynamic_shared > static_cast<uint64_t>(device().shared_opt_in)) {
    return fail(abi::kInvalidValue, k.name + ": dynamic shared memory must be at most " +
                                        std::to_string(k.max_dynamic_shared) + " bytes, got " +
                                        std::to_string(s.dynamic_shared) +
                                        "; raise cudaFuncAttributeMaxDynamicSharedMemorySize");
  }
  const int resident = resident_blocks(device(), k.code, static_cast<uint32_t>(threads), s.dynamic_shared);
  if (resident == 0) {
    return fail(abi::kLaunchOutOfResources, k.name + ": block of " + std::to_string(threads) + " threads with " +
                                                std::to_string(k.code.registers) + " registers each fits no SM");
  }
  const uint64_t blocks = uint64_t{s.grid.x} * s.grid.y * s.grid.z;
  if (s.cooperative && blocks > static_cast<uint64_t>(resident) * static_cast<uint64_t>(config().sm_count)) {
    return fail(abi::kCooperativeLaunchTooLarge, k.name + ": cooperative grid must be resident at once, got " +
                                                     std::to_string(blocks) + " blocks; raise LOWBIT_EMU_SMS");
  }
  return abi::kSuccess;
}

uint64_t g_launches = 0;  // under the registry's mutex

}  // namespace

abi::Error launch(Kernel& kernel, const LaunchShape& shape, std::vector<std::byte> parameters) {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  if (const abi::Error e = device_error(); e != abi::kSuccess) return e;
  if (!kernel.error.empty()) {
    Report r;
    r.finding = Finding::kUnsupported;
    r.site.kernel = kernel.name;
    r.message = kernel.error;
    add_report(r);
    return fail(abi::kInvalidPtx, kernel.error);
  }
  if (const abi::Error e = judge(kernel, shape); e != abi::kSuccess) return e;

  Launch l;
  l.code = &kernel.code;
  l.id = ++g_launches;
  const abi::Dim3 *g = &shape.grid, *b = &shape.block;
  l.grid[0] = g->x, l.grid[1] = g->y, l.grid[2] = g->z;
  l.threads[0] = b->x, l.threads[1] = b->y, l.threads[2] = b->z;
  l.dynamic_shared = shape.dynamic_shared;
  parameters.resize(std::max<uint64_t>(parameters.size(), kernel.code.param_bytes));
  l.parameters = std::move(parameters);
  LaunchResult result;
  try {
    result = run(l);
  } catch (const std::exception& e) {  // the host ran out of memory
    return fail(abi::kMemoryAllocation, kernel.name + ": launch must fit the host's memory, got " + e.what());
  }
  add_launch(kernel, shape, result);
  for (const Report& r : result.reports) add_report(r);
  if (result.reports.empty()) return abi::kSuccess;
  const abi::Error code = error_of(result.reports.front().finding);
  set_device_error(code);
  return fail(code, result.reports.front().sentence());
}

}  // namespace emu

using emu::abi::Dim3;
namespace abi = emu::abi;

namespace {

struct Configuration {
  Dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local std::vector<Configuration> t_configurations;

int launch_with(const void* function, const emu::LaunchShape& shape, void** arguments) {
  const std::lock_guard<std::recursive_mutex> lock(emu::registry().mutex);
  if (const abi::Error e = emu::device_error(); e != abi::kSuccess) return e;
  emu::Kernel* k = emu::find_kernel(function);
  if (k == nullptr) return emu::last_error(false);
  std::vector<std::byte> parameters(k->code.param_bytes);
  for (size_t i = 0; i < k->code.parameters.size(); ++i) {
    const emu::Place& p = k->code.parameters[i];
    std::memcpy(parameters.data() + p.offset, arguments[i], p.bytes);
  }
  return emu::launch(*k, shape, std::move(parameters));
}

}  // namespace

CUDART_API unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void* stream) {
  t_configurations.push_back({grid, block, shared, stream});
  return 0;
}

CUDART_API int __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared, void** stream) {
  if (t_configurations.empty()) return emu::fail(abi::kInvalidConfiguration, "launch: no configuration was pushed");
  const Configuration c = t_configurations.back();
  t_configurations.pop_back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.shared;
  *stream = c.stream;
  return abi::kSuccess;
}

CUDART_API int cudaLaunchKernel(const void* function, Dim3 grid, Dim3 block, void** arguments, size_t shared, void*) {
  return launch_with(function, {grid, block, shared, false}, arguments);
}
CUDART_API int cudaLaunchKernel_ptsz(const void* function, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                                     void*) {
  return launch_with(function, {grid, block, shared, false}, arguments);
}
CUDART_API int __cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared, void*) {
  return launch_with(kernel, {grid, block, shared, false}, arguments);
}
CUDART_API int __cudaLaunchKernel_ptsz(const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                                       void*) {
  return launch_with(kernel, {grid, block, shared, false}, arguments);
}
CUDART_API int cudaLaunchCooperativeKernel(const void* function, Dim3 grid, Dim3 block, void** arguments, size_t shared,
                                           void*) {
  return launch_with(function, {grid, block, shared, true}, arguments);
}

CUDART_API int cudaLaunchKernelExC(const abi::LaunchConfig* c, const void* function, void** arguments) {
  emu::LaunchShape shape{c->grid, c->block, c->dynamic_shared, false};
  for (unsigned i = 0; i < c->attribute_count; ++i) {
    const abi::LaunchAttribute& a = c->attributes[i];
    if (a.id == abi::kAttributeCooperative) shape.cooperative = a.cooperative != 0;
    if (a.id == abi::kAttributeClusterDimension && a.cluster.x * a.cluster.y * a.cluster.z > 1) {
      return emu::fail(abi::kNotSupported, "launch: cluster must be 1 block, got " + emu::text(a.cluster) +
                                               "; the emulator has no thread block clusters");
    }
  }
  return launch_with(function, shape, arguments);
}
CUDART_API int cudaLaunchKernelExC_ptsz(const abi::LaunchConfig* c, const void* function, void** arguments) {
  return cudaLaunchKernelExC(c, function, arguments);
}
