// What every launcher takes beside its family's arguments, and the launch itself. A launcher checks the device
// (arch.h), puts kernels on a stream and returns; it allocates nothing, waits for nothing and keeps no state.
//
// The arguments are those of ref/<family>.h. On CUDA
//   - `data`, `codes`, `scale`, `zero`, outlier and index pointers, sign vectors and codebooks are device memory;
//   - structures that a structure points to (ElementFormat, BlockValues::second, QMatrix::high) are host memory, read
//     before the launcher returns.
// Values are not refused, since that would need a wait: kernels or what they find into Call::findings, and go on. When
// that is looked at is the caller's choice (torch/device/findings.h).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <type_traits>

#include "common/status.h"
#include "cuda/arch.h"

namespace lowbit::cuda {

// Bits of Call::findings.
enum Finding : int32_t {
  kNonFinite = 1,      // an input value is NaN or infinite where ref would refuse it
  kScaleOverflow = 2,  // a computed scale is not finite in its dtype
  kBadCode = 4,        // a code that is no value of its format
  kBadScale = 8,       // a stored scale is not finite
  kBadId = 16,         // a row that is asked for is none of the matrix
  kBadTable = 32,      // the values of a codebook are not finite or do not ascend
};

struct Call {
  cudaStream_t stream = nullptr;
  void* workspace = nullptr;  // device memory, 256-byte aligned, uninitialized; its size: <family>_workspace(args)
  int64_t workspace_bytes = 0;
  int32_t* findings = nullptr;     // what kernels find is added here: device or mapped host memory, or nullptr
  const int64_t* seed = nullptr;   // device int64[2] (seed, offset) that replaces Philox of the arguments, so that a
                                   // captured graph draws anew; nullptr: the arguments' own
  const Device* device = nullptr;  // the current one, of a caller that keeps what it is; nullptr: it is asked for
  // Gives a workspace where the one above is too small, or nullptr; asked at most once. So a caller need not plan the
  // call beforehand to learn its size.
  void* (*allocate)(void* context, int64_t bytes) = nullptr;
  void* context = nullptr;
};

inline Status device_of(const char* op, const Call& call, Device* device) {
  if (call.device == nullptr) return current_device(op, device);
  *device = *call.device;
  return Status();
}

inline bool has_workspace(const Call& call, int64_t bytes) {
  return call.workspace_bytes >= bytes && (bytes == 0 || call.workspace != nullptr);
}

inline Status check_workspace(const char* op, const Call& call, int64_t bytes) {
  if (has_workspace(call, bytes)) return Status();
  return invalid(op, ": workspace must have ", bytes, " bytes, got ", call.workspace_bytes,
                 "; ask the family's workspace function");
}

// `*workspace` of at least so many bytes, the caller's or what it allocates.
inline Status find_workspace(const char* op, const Call& call, int64_t bytes, void** workspace) {
  *workspace = call.workspace;
  if (has_workspace(call, bytes)) return Status();
  if (call.allocate == nullptr) return check_workspace(op, call, bytes);
  *workspace = call.allocate(call.context, bytes);
  if (*workspace != nullptr) return Status();
  return Status(Code::kOutOfMemory, std::string(op) + ": the device must have " + std::to_string(bytes) +
                                        " bytes for a workspace, got fewer; free memory or cut x by rows");
}

// Kernels count rows and columns in 32 bits, elements in 64.
inline constexpr int64_t kMaxExtent = 0x7fffffff - 4096;

inline Status check_size(const char* op, const char* argument, int64_t rows, int64_t cols) {
  if (rows <= kMaxExtent && cols <= kMaxExtent) return Status();
  return invalid(op, ": ", argument, " must have at most ", kMaxExtent, " rows and columns, got [", rows, ", ", cols,
                 "]; split it");
}

inline Status check_error(const char* op, const char* what, cudaError_t error) {
  if (error == cudaSuccess) return Status();
  return unsupported(op, ": ", what, " must succeed, got ", cudaGetErrorName(error), " (", cudaGetErrorString(error),
                     "); an earlier kernel of this process may have failed");
}

// kernel<<<grid, block, shared_bytes, stream>>>(args...). More than 48 KB of shared memory, static and dynamic
// together, must be opted into (static tables here stay below 8 KB); the caller has compared it with
// Device::shared_per_block.
template <class... Params, class... Args>
Status launch(const char* op, void (*kernel)(Params...), dim3 grid, dim3 block, int64_t shared_bytes,
              cudaStream_t stream, const Args&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "one argument a parameter");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return Status();
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 40 * 1024) {
    LOWBIT_RETURN_IF_ERROR(check_error(
        op, "cudaFuncSetAttribute",
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes))));
  }
  return [&](std::remove_cv_t<Params>... values) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&values))..., nullptr};
    return check_error(op, "the launch",
                       cudaLaunchKernel(function, grid, block, pointers, static_cast<size_t>(shared_bytes), stream));
  }(static_cast<Params>(args)...);
}

}  // namespace lowbit::cuda
