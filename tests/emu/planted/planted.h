// Device arrays of the planted bugs. Every source has one bug; with -DREPAIRED it is right. run() gives 0, the CUDA
// error, or kWrong where the result differs from what the repaired kernel must give.
#pragma once

#include <cuda_runtime.h>

#include <vector>

constexpr int kWrong = 1000;

template <class T>
struct Device {
  T* pointer = nullptr;
  size_t count;
  explicit Device(size_t n) : count(n) { cudaMalloc(reinterpret_cast<void**>(&pointer), n * sizeof(T)); }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~Device() { cudaFree(pointer); }
  std::vector<T> get() const {
    std::vector<T> values(count);
    cudaMemcpy(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }
};

inline std::vector<int> iota(int n) {
  std::vector<int> v(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) v[static_cast<size_t>(i)] = i;
  return v;
}

template <class T>
int judge(const std::vector<T>& got, const std::vector<T>& expected) {
  const int error = static_cast<int>(cudaDeviceSynchronize());
  return error != 0 ? error : got == expected ? 0 : kWrong;
}
