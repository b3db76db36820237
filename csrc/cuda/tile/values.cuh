// Values in memory and in registers: the conversions of common/matrix.h on the device, bit for bit (NaN included).
#pragma once

#include <cstdint>

#include "common/matrix.h"
#include "cuda/ptx/convert.cuh"
#include "cuda/tile/codec.cuh"

namespace lowbit::cuda {

__device__ __forceinline__ float bf16_value(uint32_t b) { return from_bits(b << 16); }

// cvt makes 0x7fff of every NaN; ref keeps its sign and its top bits.
__device__ __forceinline__ uint16_t bf16_of(float f) {
  const uint32_t b = to_bits(f);
  const auto rounded = static_cast<uint16_t>(ptx::cvt_rn_bf16x2_f32(0.0f, f));
  return f == f ? rounded : static_cast<uint16_t>(b >> 16 | 0x40u);
}
__device__ __forceinline__ uint16_t f16_of(float f) {
  const auto rounded = ptx::cvt_rn_f16_f32(f);
  return f == f ? rounded : static_cast<uint16_t>((to_bits(f) >> 16 & 0x8000u) | 0x7e00u);
}
__device__ __forceinline__ float f16_value(uint32_t h) {
  const float f = ptx::cvt_f32_f16(static_cast<uint16_t>(h));
  return f == f ? f : from_bits((h & 0x8000u) << 16 | 0x7f800000u | (h & 0x3ffu) << 13);
}

__device__ __forceinline__ float load_value(const void* data, DType t, int64_t i) {
  switch (t) {
    case DType::kF32: return static_cast<const float*>(data)[i];
    case DType::kBF16: return bf16_value(static_cast<const uint16_t*>(data)[i]);
    case DType::kF16: return f16_value(static_cast<const uint16_t*>(data)[i]);
    case DType::kI32: return static_cast<float>(static_cast<const int32_t*>(data)[i]);
    case DType::kI8: return static_cast<float>(static_cast<const int8_t*>(data)[i]);
    default: return static_cast<float>(static_cast<const uint8_t*>(data)[i]);
  }
}
// The value that the low bits of a word store.
__device__ __forceinline__ float value_of_bits(uint32_t stored, DType t) {
  switch (t) {
    case DType::kF32: return from_bits(stored);
    case DType::kBF16: return bf16_value(stored);
    case DType::kF16: return f16_value(stored & 0xffffu);
    case DType::kI32: return static_cast<float>(static_cast<int32_t>(stored));
    case DType::kI8: return static_cast<float>(static_cast<int8_t>(stored));
    default: return static_cast<float>(stored & 0xffu);
  }
}
__device__ __forceinline__ void store_value(void* data, DType t, int64_t i, float v) {
  switch (t) {
    case DType::kF32: static_cast<float*>(data)[i] = v; break;
    case DType::kBF16: static_cast<uint16_t*>(data)[i] = bf16_of(v); break;
    default: static_cast<uint16_t*>(data)[i] = f16_of(v); break;
  }
}
// v as storage of `t` keeps it.
__device__ __forceinline__ float round_to(DType t, float v) {
  return t == DType::kF32 ? v : t == DType::kBF16 ? bf16_value(bf16_of(v)) : f16_value(f16_of(v));
}

inline constexpr int kVector = 8;  // elements a thread holds side by side: 16 bytes of a 16-bit type

// The next element comes first. Loops that are seldom taken are kept rolled: they work on element 0 and turn, since an
// index that is not constant would put the vector into local memory.
template <int kCount>
__device__ __forceinline__ void turn(float (&v)[kCount]) {
  const float first = v[0];
#pragma unroll
  for (int i = 0; i + 1 < kCount; ++i) v[i] = v[i + 1];
  v[kCount - 1] = first;
}

}  // namespace lowbit::cuda
