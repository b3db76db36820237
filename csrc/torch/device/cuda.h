// CUDA as the bindings see it: whose tensors, which device, which stream. device/emulated.h is the other version.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <map>
#include <stdexcept>
#include <string>

#include "cuda/arch.h"
#include "torch/args.h"

namespace lowbit::bind::device {

inline constexpr const char* kName = "CUDA";

inline bool holds(const Tensor& t) { return t.is_cuda(); }
inline int32_t type() { return aoti_torch_device_type_cuda(); }

// Of a call of PyTorch's C shims, which return 0, and of the CUDA runtime, whose cudaSuccess is 0 too.
inline void require(int code, const char* what) {
  if (code != 0) {
    throw std::runtime_error(std::string("lowbit: ") + what + " must succeed, got error " + std::to_string(code) +
                             "; an earlier kernel of this process may have failed");
  }
}

// Makes the device of a tensor the current one for as long as it lives.
class Guard {
 public:
  explicit Guard(const Tensor& t) {
    require(aoti_torch_create_cuda_guard(t.get_device(), &guard_), "the choice of the tensor's device");
  }
  ~Guard() { static_cast<void>(aoti_torch_delete_cuda_guard(guard_)); }  // a destructor has nobody to tell
  Guard(const Guard&) = delete;

 private:
  CUDAGuardHandle guard_ = nullptr;
};

inline int32_t index() {
  int device = 0;
  require(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

// What get_device() of a tensor on the current device is.
inline int32_t tensor_index() { return index(); }

// PyTorch's current stream of the current device.
inline cudaStream_t stream() {
  void* s = nullptr;
  require(aoti_torch_get_current_cuda_stream(index(), &s), "the query of PyTorch's stream");
  return static_cast<cudaStream_t>(s);
}

// What the current device is, which never changes and is asked for once a thread; nullptr: the launcher asks, and says
// what is wrong with it.
inline const cuda::Device* properties() {
  static thread_local std::map<int, cuda::Device> known;
  const int at = index();
  const auto found = known.find(at);
  if (found != known.end()) return &found->second;
  cuda::Device device;
  if (!cuda::current_device("lowbit", &device).ok()) return nullptr;
  return &known.emplace(at, device).first->second;
}

inline void show(const void*, int64_t, bool) {}
inline void hide_all() {}

inline Tensor on_host(const Tensor& t) {
  return torch::stable::to(t, torch::stable::Device(torch::headeronly::DeviceType::CPU));
}

}  // namespace lowbit::bind::device
