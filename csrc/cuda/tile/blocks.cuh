// Scales and zero points on the device: BlockValues with what it points to copied in, so that it travels as a kernel
// parameter. value(i, j) is that of block (i, j); products are rounded one by one, innermost scale first.
#pragma once

#include <cstdint>

#include "common/qmatrix.h"
#include "cuda/tile/codes.cuh"
#include "cuda/tile/tiling.cuh"

namespace lowbit::cuda {

struct DeviceValues {
  const void* data = nullptr;  // nullptr: absent
  DType dtype = DType::kF32;
  bool coded = false, has_second = false;
  DeviceFormat format;
  CodeLayout codes;
  const float* codebook = nullptr;
  int64_t row_stride = 0, col_stride = 0;
  Divisor block_rows, block_cols;
  float unit = 1.0f;
  // the scales of the scales: floats
  const void* second = nullptr;
  DType second_dtype = DType::kF32;
  int64_t second_row_stride = 0, second_col_stride = 0;
  Divisor second_rows, second_cols;
  float second_unit = 1.0f;

  DeviceValues() = default;
  explicit DeviceValues(const BlockValues& v)
      : data(v.data),
        dtype(v.dtype),
        row_stride(v.row_stride),
        col_stride(v.col_stride),
        block_rows(v.block.rows),
        block_cols(v.block.cols),
        unit(v.unit) {
    if (v && v.codes.format != nullptr) {
      coded = true;
      format = DeviceFormat(*v.codes.format);
      codes = CodeLayout::of(v.codes);
      codebook = v.codes.codebook;
    }
    if (v && v.second != nullptr) {
      has_second = true;
      second = v.second->data;
      second_dtype = v.second->dtype;
      second_row_stride = v.second->row_stride;
      second_col_stride = v.second->col_stride;
      second_rows = Divisor(v.second->block.rows);
      second_cols = Divisor(v.second->block.cols);
      second_unit = v.second->unit;
    }
  }

  __device__ __forceinline__ explicit operator bool() const { return data != nullptr; }

  __device__ __forceinline__ float value(int32_t i, int32_t j) const {
    float v = coded ? decode_one(format, codes.get(i, j), codebook)
                    : load_value(data, dtype, i * row_stride + j * col_stride);
    if (has_second) {
      v *= load_value(second, second_dtype, second_rows(i) * second_row_stride + second_cols(j) * second_col_stride) *
           second_unit;
    }
    return v * unit;
  }
  // The value of element (r, c) of the matrix.
  __device__ __forceinline__ float at(int32_t r, int32_t c) const { return value(block_rows(r), block_cols(c)); }

  // One value for eight columns at a multiple of eight.
  __device__ __forceinline__ bool is_uniform() const { return block_cols.size % kVector == 0; }
};

}  // namespace lowbit::cuda
