// CUDA as the bindings see it: whose tensors, which device, which stream. device/emulated.h is the other version.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include "torch/args.h"

namespace lowbit::bind::device {

inline constexpr const char* kName = "CUDA";

inline bool holds(const Tensor& t) { return t.is_cuda(); }
inline int32_t type() { return aoti_torch_device_type_cuda(); }

// Makes the device of a tensor the current one for as long as it lives.
class Guard {
 public:
  explicit Guard(const Tensor& t) { aoti_torch_create_cuda_guard(t.get_device(), &guard_); }
  ~Guard() { aoti_torch_delete_cuda_guard(guard_); }
  Guard(const Guard&) = delete;

 private:
  CUDAGuardHandle guard_ = nullptr;
};

inline int32_t index() {
  int device = 0;
  cudaGetDevice(&device);
  return device;
}

// What get_device() of a tensor on the current device is.
inline int32_t tensor_index() { return index(); }

// PyTorch's current stream of the current device.
inline cudaStream_t stream() {
  void* s = nullptr;
  aoti_torch_get_current_cuda_stream(index(), &s);
  return static_cast<cudaStream_t>(s);
}

inline void show(const void*, int64_t, bool) {}
inline void hide_all() {}

inline Tensor on_host(const Tensor& t) {
  return torch::stable::to(t, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

}  // namespace lowbit::bind::device
