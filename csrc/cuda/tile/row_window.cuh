// Scales and zero points of 64 rows on their way through registers and shared memory. Values of one row lie side by
// side along K, those of the next row far off: lanes that read one value of their row each touch a sector of 32 bytes
// for it, again for every segment. So eight lanes bring the eight words of a sector of a row, which are the values of
// several segments, while those of the window before are in use.
//
//   in shared memory: word j of row r at j * 68 + r: the eight words of four rows that a warp stores, and the same word
//   of 32 rows that it reads, meet all banks
#pragma once

#include <cstdint>

#include "cuda/tile/blocks.cuh"
#include "cuda/tile/values.cuh"

namespace lowbit::cuda {

struct RowWindow {
  static constexpr int kRows = 64, kThreads = 128, kWords = 8, kStride = kRows + 4, kSharedWords = kWords * kStride;
  static constexpr int kEach = kRows * kWords / kThreads;  // words of a thread

  const uint8_t* data = nullptr;
  int64_t row_stride = 0;  // bytes
  int32_t words = 0;       // of a row
  int32_t size = 0;        // bytes of a value; 0: values are read where they lie
  DType dtype = DType::kF32;

  RowWindow() = default;
  // Values of single rows that change along K, in rows of whole words.
  RowWindow(const DeviceValues& v, int64_t cols) {
    const int64_t block = v.block_cols.size;
    if (v.data == nullptr || v.coded || v.has_second || v.block_rows.size != 1 || block == 0 || block >= cols) return;
    const int64_t bytes = ceil_divide(cols, block) * size_of(v.dtype);
    if (v.col_stride != 1 || v.unit != 1.0f || reinterpret_cast<uintptr_t>(v.data) % 4 != 0 || bytes % 4 != 0 ||
        v.row_stride * size_of(v.dtype) % 4 != 0) {
      return;
    }
    data = static_cast<const uint8_t*>(v.data);
    row_stride = v.row_stride * size_of(v.dtype);
    words = static_cast<int32_t>(bytes / 4);
    size = static_cast<int32_t>(size_of(v.dtype));
    dtype = v.dtype;
  }

  // Which window has the value of block j.
  __device__ __forceinline__ int32_t window_of(int32_t j) const { return j / (4 * kWords / size); }

  // The words of this thread of a window; `rows` from row0 on are there.
  __device__ __forceinline__ void load(int32_t window, int32_t row0, int rows, uint32_t (&v)[kEach]) const {
    const int32_t word = window * kWords + static_cast<int32_t>(threadIdx.x) % kWords;
    const auto* from = reinterpret_cast<const uint32_t*>(data + row0 * row_stride) + word;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = static_cast<int>(threadIdx.x) / kWords + kThreads / kWords * i;
      v[i] = r < rows && word < words ? *(from + r * (row_stride / 4)) : 0u;
    }
  }
  static __device__ __forceinline__ void store(const uint32_t (&v)[kEach], uint32_t* shared) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = static_cast<int>(threadIdx.x) / kWords + kThreads / kWords * i;
      shared[static_cast<int>(threadIdx.x) % kWords * kStride + r] = v[i];
    }
  }
  // The bits of the value of block j of row r, in the low end of a word.
  __device__ __forceinline__ uint32_t bits_at(const uint32_t* shared, int r, int32_t j) const {
    const int byte = j * size % (4 * kWords);
    return shared[byte / 4 * kStride + r] >> (8 * (byte % 4));
  }
  __device__ __forceinline__ float float_at(const uint32_t* shared, int r, int32_t j) const {
    const uint32_t bits = bits_at(shared, r, j);
    return dtype == DType::kF32    ? from_bits(bits)
           : dtype == DType::kBF16 ? bf16_value(bits & 0xffffu)
                                   : f16_value(bits & 0xffffu);
  }
  __device__ __forceinline__ int32_t integer_at(const uint32_t* shared, int r, int32_t j) const {
    const uint32_t bits = bits_at(shared, r, j);
    return dtype == DType::kI32  ? static_cast<int32_t>(bits)
           : dtype == DType::kI8 ? static_cast<int8_t>(bits & 0xffu)
                                 : static_cast<int32_t>(bits & 0xffu);
  }
};

}  // namespace lowbit::cuda
