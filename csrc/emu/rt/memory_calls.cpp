// cudaMalloc and its kin, copies and fills. Everything is done when the call returns, so streams order nothing here.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "emu/memory/allocator.h"
#include "emu/rt/device.h"
#include "emu/rt/error.h"
#include "emu/rt/record.h"
#include "emu/rt/registry.h"

namespace abi = emu::abi;

namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

bool on_device(uint64_t address) {
  const emu::Allocation* a = emu::allocator().find(address);
  return a != nullptr && !a->is_host;
}

// Host memory that the device does not reach: a copy of it is staged, and the host waits.
bool is_pageable(const void* p) {
  const Lock lock(emu::registry().mutex);
  return emu::allocator().find(reinterpret_cast<uint64_t>(p)) == nullptr;
}

int refuse_copy(const char* what) {
  return emu::fail(abi::kInvalidValue, std::string("cudaMemcpy: ") + what + " must lie within one allocation");
}

int copy(void* to, const void* from, uint64_t bytes, int kind) {
  const Lock lock(emu::registry().mutex);
  if (const abi::Error e = emu::device_error(); e != abi::kSuccess) return e;
  if (kind < abi::kHostToHost || kind > abi::kDefault) {
    return emu::fail(abi::kInvalidMemcpyDirection, "cudaMemcpy: kind must be 0 to 4, got " + std::to_string(kind));
  }
  if (bytes == 0) return abi::kSuccess;
  const auto t = reinterpret_cast<uint64_t>(to), f = reinterpret_cast<uint64_t>(from);
  const bool to_device = on_device(t), from_device = on_device(f);
  const bool wants_to = kind == abi::kHostToDevice || kind == abi::kDeviceToDevice;
  const bool wants_from = kind == abi::kDeviceToHost || kind == abi::kDeviceToDevice;
  if (kind != abi::kDefault) {
    // host memory that kernels see may stand on either side
    if (to_device != wants_to && emu::allocator().find(t) == nullptr) return refuse_copy("destination");
    if (from_device != wants_from && emu::allocator().find(f) == nullptr) return refuse_copy("source");
    if ((to_device && !wants_to) || (from_device && !wants_from)) {
      return emu::fail(abi::kInvalidMemcpyDirection, "cudaMemcpy: kind must say where its addresses lie");
    }
  }
  if (to_device && from_device) return emu::allocator().copy(t, f, bytes) ? abi::kSuccess : refuse_copy("both sides");
  if (to_device) return emu::allocator().copy_in(t, from, bytes) ? abi::kSuccess : refuse_copy("destination");
  if (from_device) return emu::allocator().copy_out(to, f, bytes) ? abi::kSuccess : refuse_copy("source");
  std::memmove(to, from, bytes);
  if (const emu::Allocation* a = emu::allocator().find(t); a != nullptr && a->holds(t, bytes)) {
    emu::allocator().set_written(t, bytes, true);
  }
  return abi::kSuccess;
}

int copy_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height, int kind) {
  if (height > 1 && (width > to_pitch || width > from_pitch)) {
    return emu::fail(abi::kInvalidValue, "cudaMemcpy2D: width must be at most the pitch");
  }
  for (size_t row = 0; row < height; ++row) {
    const int e =
        copy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch, width, kind);
    if (e != abi::kSuccess) return e;
  }
  return abi::kSuccess;
}

int fill(void* to, int value, uint64_t bytes) {
  const Lock lock(emu::registry().mutex);
  if (const abi::Error e = emu::device_error(); e != abi::kSuccess) return e;
  if (bytes == 0) return abi::kSuccess;
  const auto address = reinterpret_cast<uint64_t>(to);
  if (!on_device(address)) {
    if (emu::allocator().find(address) == nullptr) return refuse_copy("destination of cudaMemset");
    std::memset(to, value, bytes);
    emu::allocator().set_written(address, bytes, true);
    return abi::kSuccess;
  }
  return emu::allocator().fill(address, static_cast<uint8_t>(value), bytes) ? abi::kSuccess
                                                                            : refuse_copy("destination of cudaMemset");
}

int allocate(void** out, size_t bytes) {
  const Lock lock(emu::registry().mutex);
  if (out == nullptr) return emu::fail(abi::kInvalidValue, "cudaMalloc: pointer must not be null");
  if (const abi::Error e = emu::device_error(); e != abi::kSuccess) return e;
  *out = nullptr;
  if (bytes == 0) return abi::kSuccess;
  const uint64_t total = static_cast<uint64_t>(emu::device().memory_mb) << 20;
  const uint64_t used = emu::allocator().bytes_in_use();
  const uint64_t address = bytes <= total - std::min(total, used) ? emu::allocator().allocate(bytes, false) : 0;
  if (address == 0) {
    return emu::fail(abi::kMemoryAllocation,
                     "cudaMalloc: size must fit the device memory, got " + std::to_string(bytes));
  }
  *out = reinterpret_cast<void*>(address);
  return abi::kSuccess;
}

int release(void* pointer) {
  const Lock lock(emu::registry().mutex);
  if (pointer == nullptr) return abi::kSuccess;
  emu::add_wait();
  if (emu::allocator().free(reinterpret_cast<uint64_t>(pointer))) return abi::kSuccess;
  return emu::fail(abi::kInvalidValue, "cudaFree: pointer must be what cudaMalloc gave");
}

// Pinned and managed memory is the host's, seen by kernels at its own address.
std::map<void*, uint64_t>& pinned() {
  static auto* p = new std::map<void*, uint64_t>;
  return *p;
}

int allocate_host(void** out, size_t bytes, bool initialized) {
  const Lock lock(emu::registry().mutex);
  constexpr size_t kPage = 4096;
  if (out == nullptr) return emu::fail(abi::kInvalidValue, "cudaMallocHost: pointer must not be null");
  *out = nullptr;
  if (bytes == 0) return abi::kSuccess;
  void* p = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (p == nullptr) return emu::fail(abi::kMemoryAllocation, "cudaMallocHost: out of host memory");
  if (!emu::allocator().map(p, bytes, initialized)) {
    std::free(p);
    return emu::fail(abi::kMemoryAllocation, "cudaMallocHost: range is mapped already");
  }
  pinned()[p] = bytes;
  *out = p;
  return abi::kSuccess;
}

int release_host(void* p) {
  const Lock lock(emu::registry().mutex);
  if (p == nullptr) return abi::kSuccess;
  const auto it = pinned().find(p);
  if (it == pinned().end())
    return emu::fail(abi::kInvalidValue, "cudaFreeHost: pointer must be what cudaMallocHost gave");
  emu::allocator().unmap(p);
  pinned().erase(it);
  std::free(p);
  return abi::kSuccess;
}

const emu::Module::Placed* symbol_range(const void* symbol, size_t bytes, size_t offset) {
  const emu::Module::Placed* v = emu::find_variable(symbol);
  if (v != nullptr && (offset > v->bytes || bytes > v->bytes - offset)) {
    emu::fail(abi::kInvalidValue,
              "symbol must hold " + std::to_string(offset + bytes) + " bytes, got " + std::to_string(v->bytes));
    return nullptr;
  }
  return v;
}

int copy_to_symbol(const void* symbol, const void* from, size_t bytes, size_t offset, int kind) {
  const Lock lock(emu::registry().mutex);
  const emu::Module::Placed* v = symbol_range(symbol, bytes, offset);
  return v != nullptr ? copy(reinterpret_cast<void*>(v->address + offset), from, bytes, kind) : emu::last_error(false);
}

int copy_from_symbol(void* to, const void* symbol, size_t bytes, size_t offset, int kind) {
  const Lock lock(emu::registry().mutex);
  const emu::Module::Placed* v = symbol_range(symbol, bytes, offset);
  return v != nullptr ? copy(to, reinterpret_cast<const void*>(v->address + offset), bytes, kind)
                      : emu::last_error(false);
}

}  // namespace

CUDART_API int cudaMalloc(void** out, size_t bytes) { return allocate(out, bytes); }
CUDART_API int cudaMallocAsync(void** out, size_t bytes, void*) { return allocate(out, bytes); }
CUDART_API int cudaFree(void* p) {
  const Lock lock(emu::registry().mutex);
  const auto it = pinned().find(p);  // cudaMallocManaged
  return it != pinned().end() ? release_host(p) : release(p);
}
CUDART_API int cudaFreeAsync(void* p, void*) { return cudaFree(p); }
CUDART_API int cudaMallocHost(void** out, size_t bytes) { return allocate_host(out, bytes, true); }
CUDART_API int cudaHostAlloc(void** out, size_t bytes, unsigned) { return allocate_host(out, bytes, true); }
CUDART_API int cudaMallocManaged(void** out, size_t bytes, unsigned) { return allocate_host(out, bytes, true); }
CUDART_API int cudaFreeHost(void* p) { return release_host(p); }
CUDART_API int cudaHostRegister(void* p, size_t bytes, unsigned) {
  const Lock lock(emu::registry().mutex);
  return emu::allocator().map(p, bytes, true)
             ? abi::kSuccess
             : emu::fail(abi::kInvalidValue, "cudaHostRegister: range is mapped already");
}
CUDART_API int cudaHostUnregister(void* p) {
  const Lock lock(emu::registry().mutex);
  return emu::allocator().unmap(p) ? abi::kSuccess
                                   : emu::fail(abi::kInvalidValue, "cudaHostUnregister: pointer is not registered");
}
CUDART_API int cudaHostGetDevicePointer(void** out, void* host, unsigned) {
  *out = host;
  return abi::kSuccess;
}
CUDART_API int cudaMallocPitch(void** out, size_t* pitch, size_t width, size_t height) {
  constexpr size_t kPitch = 512;
  *pitch = (width + kPitch - 1) / kPitch * kPitch;
  return allocate(out, *pitch * height);
}

CUDART_API int cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(emu::registry().mutex);
  *total = static_cast<size_t>(emu::device().memory_mb) << 20;
  *free = *total - std::min<size_t>(*total, emu::allocator().bytes_in_use());
  return abi::kSuccess;
}

CUDART_API int cudaMemcpy(void* to, const void* from, size_t bytes, int kind) {
  emu::add_wait();
  return copy(to, from, bytes, kind);
}
CUDART_API int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, void*) {
  if (is_pageable(to) || is_pageable(from)) emu::add_wait();
  return copy(to, from, bytes, kind);
}
CUDART_API int cudaMemcpy_ptds(void* to, const void* from, size_t bytes, int kind) {
  return cudaMemcpy(to, from, bytes, kind);
}
CUDART_API int cudaMemcpyAsync_ptsz(void* to, const void* from, size_t bytes, int kind, void* stream) {
  return cudaMemcpyAsync(to, from, bytes, kind, stream);
}
CUDART_API int cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
  return copy(to, from, bytes, abi::kDefault);
}
CUDART_API int cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                            int kind) {
  emu::add_wait();
  return copy_rows(to, to_pitch, from, from_pitch, width, height, kind);
}
CUDART_API int cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                 size_t height, int kind, void*) {
  if (is_pageable(to) || is_pageable(from)) emu::add_wait();
  return copy_rows(to, to_pitch, from, from_pitch, width, height, kind);
}
CUDART_API int cudaMemset(void* to, int value, size_t bytes) { return fill(to, value, bytes); }
CUDART_API int cudaMemsetAsync(void* to, int value, size_t bytes, void*) { return fill(to, value, bytes); }
CUDART_API int cudaMemset2D(void* to, size_t pitch, int value, size_t width, size_t height) {
  for (size_t row = 0; row < height; ++row) {
    if (const int e = fill(static_cast<char*>(to) + row * pitch, value, width); e != abi::kSuccess) return e;
  }
  return abi::kSuccess;
}
CUDART_API int cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t height, void*) {
  return cudaMemset2D(to, pitch, value, width, height);
}

CUDART_API int cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, int kind) {
  return copy_to_symbol(symbol, from, bytes, offset, kind);
}
CUDART_API int cudaMemcpyToSymbolAsync(const void* symbol, const void* from, size_t bytes, size_t offset, int kind,
                                       void*) {
  return copy_to_symbol(symbol, from, bytes, offset, kind);
}
CUDART_API int cudaMemcpyFromSymbol(void* to, const void* symbol, size_t bytes, size_t offset, int kind) {
  return copy_from_symbol(to, symbol, bytes, offset, kind);
}
CUDART_API int cudaMemcpyFromSymbolAsync(void* to, const void* symbol, size_t bytes, size_t offset, int kind, void*) {
  return copy_from_symbol(to, symbol, bytes, offset, kind);
}
CUDART_API int cudaGetSymbolAddress(void** out, const void* symbol) {
  const Lock lock(emu::registry().mutex);
  const emu::Module::Placed* v = emu::find_variable(symbol);
  if (v == nullptr) return emu::last_error(false);
  *out = reinterpret_cast<void*>(v->address);
  return abi::kSuccess;
}
CUDART_API int cudaGetSymbolSize(size_t* out, const void* symbol) {
  const Lock lock(emu::registry().mutex);
  const emu::Module::Placed* v = emu::find_variable(symbol);
  if (v == nullptr) return emu::last_error(false);
  *out = v->bytes;
  return abi::kSuccess;
}

CUDART_API int cudaPointerGetAttributes(abi::PointerAttributes* out, const void* pointer) {
  const Lock lock(emu::registry().mutex);
  *out = {};
  const emu::Allocation* a = emu::allocator().find(reinterpret_cast<uint64_t>(pointer));
  if (a == nullptr) {
    out->device = -2;
    out->hostPointer = const_cast<void*>(pointer);
    return abi::kSuccess;
  }
  out->type = a->is_host ? abi::kHost : abi::kDevice;
  out->devicePointer = const_cast<void*>(pointer);
  out->hostPointer = a->is_host ? const_cast<void*>(pointer) : nullptr;
  return abi::kSuccess;
}
