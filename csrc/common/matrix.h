// Strided views of dense float (and raw int32) data, and conversion of one element. No ownership, no torch.
#pragma once

#include <cstdint>
#include <cstring>

namespace lowbit {

enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kI8, kU8 };

constexpr int64_t size_of(DType t) {
  return t == DType::kF32 || t == DType::kI32 ? 4 : t == DType::kBF16 || t == DType::kF16 ? 2 : 1;
}

inline float bits_to_float(uint32_t b) {
  float f;
  std::memcpy(&f, &b, 4);
  return f;
}
inline uint32_t float_to_bits(float f) {
  uint32_t b;
  std::memcpy(&b, &f, 4);
  return b;
}

inline float bf16_to_float(uint16_t b) { return bits_to_float(static_cast<uint32_t>(b) << 16); }

inline uint16_t float_to_bf16(float f) {  // nearest, ties to even; NaN stays a (quiet) NaN
  const uint32_t b = float_to_bits(f);
  if ((b & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((b >> 16) | 0x40u);
  return static_cast<uint16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
}

inline float f16_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // 2^112 rebiases the exponent and makes half subnormals exact
  return bits_to_float(sign | float_to_bits(bits_to_float(magnitude << 13) * 5.192296858534828e33f));
}

inline uint16_t float_to_f16(float f) {  // nearest, ties to even; overflow to infinity
  const uint32_t b = float_to_bits(f);
  const uint32_t sign = (b >> 16) & 0x8000u;
  const uint32_t a = b & 0x7fffffffu;
  if (a > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (a >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65520 rounds to infinity
  if (a < 0x38800000u) {  // below the least normal half, 2^-14: adding 0.5 puts the quantum 2^-24 at the last bit
    return static_cast<uint16_t>(sign | (float_to_bits(bits_to_float(a) + 0.5f) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((a - 0x38000000u + 0xfffu + ((a >> 13) & 1u)) >> 13));
}

inline float load_float(const void* data, DType t, int64_t i) {
  switch (t) {
    case DType::kF32: return static_cast<const float*>(data)[i];
    case DType::kBF16: return bf16_to_float(static_cast<const uint16_t*>(data)[i]);
    case DType::kF16: return f16_to_float(static_cast<const uint16_t*>(data)[i]);
    case DType::kI32: return static_cast<float>(static_cast<const int32_t*>(data)[i]);
    case DType::kI8: return static_cast<float>(static_cast<const int8_t*>(data)[i]);
    default: return static_cast<float>(static_cast<const uint8_t*>(data)[i]);
  }
}

// Stores to a float dtype, nearest even.
inline void store_float(void* data, DType t, int64_t i, float v) {
  switch (t) {
    case DType::kF32: static_cast<float*>(data)[i] = v; break;
    case DType::kBF16: static_cast<uint16_t*>(data)[i] = float_to_bf16(v); break;
    default: static_cast<uint16_t*>(data)[i] = float_to_f16(v); break;
  }
}

// rows x cols elements of `dtype`; element (r, c) at r * row_stride + c * col_stride, in elements.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 1;

  float at(int64_t r, int64_t c) const { return load_float(data, dtype, r * row_stride + c * col_stride); }
  void set(int64_t r, int64_t c, float v) const { store_float(data, dtype, r * row_stride + c * col_stride, v); }
};

}  // namespace lowbit
