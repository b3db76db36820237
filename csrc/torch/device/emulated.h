// A device that lives in the process: CPU tensors are shown to it, at their own addresses, for the length of an op.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/arch.h"
#include "torch/args.h"

// csrc/emu/rt/control.h
extern "C" int emu_map(void* host, uint64_t bytes, int initialized);
extern "C" int emu_unmap(void* host);

namespace lowbit::bind::device {

inline constexpr const char* kName = "the CPU";

inline bool holds(const Tensor& t) { return t.is_cpu(); }
inline int32_t type() { return aoti_torch_device_type_cpu(); }
inline int32_t index() { return 0; }
inline int32_t tensor_index() { return -1; }  // of a CPU tensor
inline cudaStream_t stream() { return nullptr; }
inline const cuda::Device* properties() { return nullptr; }  // tests change the device

class Guard {
 public:
  explicit Guard(const Tensor&) {}
};

struct Range {
  uintptr_t begin, end;
};
inline std::vector<Range>& shown() {
  static thread_local std::vector<Range> ranges;
  return ranges;
}

inline void require(int code, const char* what) {
  if (code != 0) throw std::runtime_error(std::string("lowbit: ") + what + " must succeed; it is of the emulator");
}

// [p, p + bytes) as memory that was written, or not. Tensors may share memory: ranges that meet become one.
inline void show(const void* p, int64_t bytes, bool written) {
  if (bytes <= 0) return;
  Range r{reinterpret_cast<uintptr_t>(p), reinterpret_cast<uintptr_t>(p) + static_cast<uintptr_t>(bytes)};
  std::vector<Range>& all = shown();
  for (size_t i = 0; i < all.size();) {
    if (all[i].begin <= r.begin && r.end <= all[i].end) return;
    if (all[i].begin < r.end && r.begin < all[i].end) {
      r = {std::min(r.begin, all[i].begin), std::max(r.end, all[i].end)};
      require(emu_unmap(reinterpret_cast<void*>(all[i].begin)), "emu_unmap");
      all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
      written = true;
    } else {
      ++i;
    }
  }
  require(emu_map(reinterpret_cast<void*>(r.begin), r.end - r.begin, written ? 1 : 0), "emu_map");
  all.push_back(r);
}
inline void hide_all() {
  // by destructors, which have nobody to tell
  for (const Range& r : shown()) static_cast<void>(emu_unmap(reinterpret_cast<void*>(r.begin)));
  shown().clear();
}

// A wait, as it is on CUDA: the emulator counts it.
inline Tensor on_host(const Tensor& t) {
  cudaStreamSynchronize(stream());
  return t;
}

}  // namespace lowbit::bind::device
