// Scales in two halves, so that the loop between them hides the latency: the load of what is stored, and its value.
#pragma once

#include <cstdint>

#include "cuda/tile/operand.cuh"

namespace lowbit::cuda {

// What is stored of the scale of (r, c), unconverted; 0 for the kinds that scale_value reads by itself.
__device__ __forceinline__ uint32_t load_scale(const Operand& o, int32_t r, int32_t c) {
  if (o.scale_kind == ScaleKind::kNone || o.scale_kind == ScaleKind::kOther) return 0;
  const int64_t i = o.scale.block_rows(r), j = o.scale.block_cols(c);
  if (o.scale_kind == ScaleKind::kCoded) {
    return static_cast<const uint8_t*>(o.scale.data)[i * o.scale.codes.row_stride + j];
  }
  const int64_t at = i * o.scale.row_stride + j * o.scale.col_stride;
  if (o.scale_kind == ScaleKind::kFloat32) return static_cast<const uint32_t*>(o.scale.data)[at];
  return static_cast<const uint16_t*>(o.scale.data)[at];
}

// The scale of (r, c) of what load_scale returned.
__device__ __forceinline__ float scale_value(const Operand& o, uint32_t stored, int32_t r, int32_t c) {
  if (o.scale_kind == ScaleKind::kNone) return 1.0f;
  return o.scale_kind == ScaleKind::kOther ? o.scale_at(r, c) : o.scale_of(stored, r, c, 0);
}

// What is stored of the zero point of (r, c), a plain one: integers as such, floats unconverted.
__device__ __forceinline__ uint32_t load_zero(const Operand& o, int32_t r, int32_t c) {
  const int64_t at = o.zero.block_rows(r) * o.zero.row_stride + o.zero.block_cols(c) * o.zero.col_stride;
  const void* data = o.zero.data;
  switch (o.zero.dtype) {
    case DType::kF32:
    case DType::kI32: return static_cast<const uint32_t*>(data)[at];
    case DType::kBF16:
    case DType::kF16: return static_cast<const uint16_t*>(data)[at];
    case DType::kI8: return static_cast<uint32_t>(static_cast<int32_t>(static_cast<const int8_t*>(data)[at]));
    default: return static_cast<const uint8_t*>(data)[at];
  }
}
// Operand::scale_codes by one load where the codes of `kCount` blocks lie in an aligned word of that size.
template <int kCount>
__device__ __forceinline__ uint32_t load_scale_codes(const Operand& o, int32_t r, int32_t c) {
  const int32_t j = o.scale.block_cols(c);
  const auto* from = static_cast<const uint8_t*>(o.scale.data) + o.scale.block_rows(r) * o.scale.codes.row_stride + j;
  const int32_t blocks = (o.cols + o.scale.block_cols.size - 1) / o.scale.block_cols.size;
  if (j + kCount > blocks || reinterpret_cast<uintptr_t>(from) % kCount != 0) return o.scale_codes(r, c, kCount);
  return kCount == 4 ? *reinterpret_cast<const uint32_t*>(from) : *reinterpret_cast<const uint16_t*>(from);
}

// Bytes of one stored scale.
inline __host__ __device__ int stored_scale_bytes(const Operand& o) {
  return o.scale_kind == ScaleKind::kCoded ? 1 : o.scale_kind == ScaleKind::kFloat32 ? 4 : 2;
}
}  // namespace lowbit::cuda
