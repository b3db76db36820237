// What the C entry points share: flat structures over device pointers, and a Status as a number and a sentence. One
// file a family; python/ctypes and C++ tests call them, no torch is needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "common/qmatrix.h"
#include "common/spec.h"
#include "common/status.h"
#include "cuda/launch.h"

namespace lowbit::cuda {

// 0, or the Code of the failure with its sentence in `error`.
inline int answer(const Status& status, char* error, int64_t error_size) {
  if (error_size > 0) {
    const auto n = std::min<size_t>(status.message().size(), static_cast<size_t>(error_size - 1));
    std::memcpy(error, status.message().data(), n);
    error[n] = 0;
  }
  return static_cast<int>(status.code());
}

// A device matrix: dtype is a DType. The mirror of Matrix.
struct CMatrix {
  void* data;
  int64_t dtype, rows, cols, row_stride, col_stride;

  Matrix matrix() const { return {data, static_cast<DType>(dtype), rows, cols, row_stride, col_stride}; }
};

// The mirror of Call.
struct CCall {
  void* stream;
  void* workspace;
  int64_t workspace_bytes;
  int32_t* findings;
  const int64_t* seed;
  int64_t multiprocessors;  // of the GEMM families: plan as for so many, 0: as for those of the device

  Call call() const { return {static_cast<cudaStream_t>(stream), workspace, workspace_bytes, findings, seed}; }
};

// Contiguous device values of a block rule: floats of `dtype`, or canonical codes where the spec has coded ones; null
// where absent.
struct CValues {
  void* data;
  int64_t dtype;
};

}  // namespace lowbit::cuda
