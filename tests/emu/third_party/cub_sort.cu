// CUB's device-wide radix sort of keys with values (onesweep: its look-back assumes that blocks start in ascending
// order).
#include <cub/device/device_radix_sort.cuh>

extern "C" int sort_pairs(int n, const unsigned* keys, unsigned* keys_out, const int* values, int* values_out) {
  size_t bytes = 0;
  const auto sort = [&](void* storage) {
    return cub::DeviceRadixSort::SortPairs(storage, bytes, keys, keys_out, values, values_out, n);
  };
  void* storage = nullptr;
  int error = static_cast<int>(sort(nullptr));
  if (error == 0) error = static_cast<int>(cudaMalloc(&storage, bytes));
  if (error == 0) error = static_cast<int>(sort(storage));
  if (error == 0) error = static_cast<int>(cudaDeviceSynchronize());
  cudaFree(storage);
  return error;
}
