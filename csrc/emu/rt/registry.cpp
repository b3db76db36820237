#include "emu/rt/registry.h"

#include <algorithm>

#include "emu/config.h"

namespace emu {

FatBinary::Loaded& FatBinary::for_device() {
  const std::string& arch = config().arch;
  const auto known = loaded.find(arch);
  if (known != loaded.end()) return known->second;
  Loaded& l = loaded[arch];
  std::string why = error;
  const FatEntry* chosen = why.empty() ? choose_ptx(entries, arch, &why) : nullptr;
  if (chosen == nullptr) {
    l.error = abi::kNoKernelImageForDevice;
    l.sentence = why;
    return l;
  }
  const FatEntry* elf = choose_elf(entries, arch);
  l.module = Module::load(chosen->data, elf != nullptr ? elf->data : std::string_view{}, &why);
  if (l.module == nullptr) {
    l.error = abi::kInvalidPtx;
    l.sentence = chosen->name() + ": " + why;
  }
  return l;
}

Registry& registry() {
  static Registry* r = new Registry;
  return *r;
}

const HostKernel* find_host_kernel(const void* function) {
  Registry& r = registry();
  const auto it = r.kernels.find(function);
  if (it != r.kernels.end()) return it->second.get();
  for (const auto& [host, kernel] : r.kernels) {
    if (kernel.get() == function) return kernel.get();
  }
  return nullptr;
}

Kernel* find_kernel(const void* function) {
  const HostKernel* host = find_host_kernel(function);
  if (host == nullptr) {
    fail(abi::kInvalidDeviceFunction, "launch: function must be a kernel of a loaded object, got another address");
    return nullptr;
  }
  FatBinary::Loaded& l = host->binary->for_device();
  if (l.module == nullptr) {
    fail(l.error, host->name + ": " + l.sentence);
    return nullptr;
  }
  Kernel* k = l.module->kernel(host->name);
  if (k == nullptr) fail(abi::kInvalidDeviceFunction, "launch: module has no kernel " + host->name);
  return k;
}

const Module::Placed* find_variable(const void* symbol) {
  Registry& r = registry();
  const auto it = r.variables.find(symbol);
  if (it == r.variables.end()) {
    fail(abi::kInvalidSymbol, "symbol must be a variable of a loaded object, got another address");
    return nullptr;
  }
  FatBinary::Loaded& l = it->second.binary->for_device();
  if (l.module == nullptr) {
    fail(l.error, it->second.name + ": " + l.sentence);
    return nullptr;
  }
  const Module::Placed* placed = l.module->variable(it->second.name);
  if (placed == nullptr) fail(abi::kInvalidSymbol, "module has no variable " + it->second.name);
  return placed;
}

}  // namespace emu

using emu::FatBinary;
using emu::registry;

namespace {
struct Wrapper {  // __fatBinC_Wrapper_t
  int magic;
  int version;
  const void* data;
  void* linked;
};
constexpr int kWrapperMagic = 0x466243b1;
}  // namespace

CUDART_API void** __cudaRegisterFatBinary(void* wrapper) {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  auto binary = std::make_unique<FatBinary>();
  const auto* w = static_cast<const Wrapper*>(wrapper);
  if (w->magic != kWrapperMagic) {
    binary->error = "fat binary wrapper must begin with 0x466243b1, got another one";
  } else {
    emu::read_fatbin(w->data, &binary->entries, &binary->error);
  }
  registry().binaries.push_back(std::move(binary));
  return reinterpret_cast<void**>(registry().binaries.back().get());
}

CUDART_API void __cudaRegisterFatBinaryEnd(void**) {}

CUDART_API void __cudaUnregisterFatBinary(void** handle) {
  emu::Registry& r = registry();
  const std::lock_guard<std::recursive_mutex> lock(r.mutex);
  const auto* binary = reinterpret_cast<const FatBinary*>(handle);
  for (auto it = r.kernels.begin(); it != r.kernels.end();)
    it = it->second->binary == binary ? r.kernels.erase(it) : ++it;
  for (auto it = r.variables.begin(); it != r.variables.end();) {
    it = it->second.binary == binary ? r.variables.erase(it) : ++it;
  }
  r.binaries.erase(
      std::remove_if(r.binaries.begin(), r.binaries.end(), [&](const auto& b) { return b.get() == binary; }),
      r.binaries.end());
}

CUDART_API void __cudaRegisterFunction(void** handle, const char* host, char*, const char* name, int, void*, void*,
                                       void*, void*, int*) {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  auto kernel = std::make_unique<emu::HostKernel>();
  *kernel = {reinterpret_cast<FatBinary*>(handle), name};
  registry().kernels[host] = std::move(kernel);
}

CUDART_API void __cudaRegisterVar(void** handle, char* host, char*, const char* name, int, size_t bytes, int, int) {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  registry().variables[host] = {reinterpret_cast<FatBinary*>(handle), name, bytes};
}

CUDART_API char __cudaInitModule(void**) { return 1; }

CUDART_API int __cudaGetKernel(const void** kernel, const void* host) {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  const emu::HostKernel* k = emu::find_host_kernel(host);
  *kernel = k;
  return k != nullptr ? emu::abi::kSuccess
                      : emu::fail(emu::abi::kInvalidDeviceFunction, "function must be a kernel of a loaded object");
}

CUDART_API int cudaGetKernel(const void** kernel, const void* host) { return __cudaGetKernel(kernel, host); }
CUDART_API int cudaGetFuncBySymbol(const void** function, const void* host) { return __cudaGetKernel(function, host); }
