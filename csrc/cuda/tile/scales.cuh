// The scale of one block from its extent (ref/scaling.h), on the device.
#pragma once

#include <cstdint>

#include "cuda/tile/blocks.cuh"
#include "cuda/tile/extents.cuh"
#include "ref/scaling.h"

namespace lowbit::cuda {

inline ExtentStore extent_store(const Scaling& scaling, const Call& call) {
  ExtentStore store;
  store.most = static_cast<uint32_t*>(call.workspace);
  store.block_rows = Divisor(scaling.spec.block.rows);
  store.block_cols = Divisor(scaling.spec.block.cols);
  store.cols = static_cast<int32_t>(scaling.scale.cols);
  if (scaling.asymmetric) store.least = store.most + scaling.scale.rows * scaling.scale.cols;
  return store;
}

__device__ __forceinline__ int floor_log2_of(float a) {
  const uint32_t b = magnitude_bits(a);
  return b >> 23 != 0 ? static_cast<int>(b >> 23) - 127 : 31 - __clz(static_cast<int>(b)) - 149;
}

// `s` as float storage of `dtype` keeps it; 1 for what would be 0.
__device__ __forceinline__ float stored_scale_of(float s, DType dtype) {
  const float v = round_to(dtype, s);
  return v == 0 ? 1.0f : v;
}

struct ScaleMaker {
  enum class Kind : uint8_t { kFloat, kPower, kMinifloat, kOther };
  Kind kind = Kind::kFloat;
  DType dtype = DType::kF32;
  bool asymmetric = false, is_codebook = false;
  DeviceFormat format;
  FloatCoder minifloat;
  uint32_t least = 0;      // code of the least positive scale
  float largest = 0;       // scale
  float unit = 1.0f;       // of the element
  float extent = 1.0f;     // that a scale of 1 covers; of a codebook from its values
  uint32_t last_code = 0;  // of a codebook
  const float* codebook = nullptr;
  IntCoder zero;

  ScaleMaker() = default;
  explicit ScaleMaker(const Scaling& s) : dtype(s.scale.dtype), asymmetric(s.asymmetric), unit(s.spec.unit) {
    const ElementFormat& f = *s.spec.element;
    is_codebook = f.kind == lowbit::Kind::kCodebook;
    codebook = s.codebook;
    last_code = max_code(f);
    if (!is_codebook) extent = extent_of_unit_scale(s);
    if (f.is_int()) zero = IntCoder(f);
    if (s.spec.scale == nullptr) return;
    const ElementFormat& g = *s.spec.scale;
    format = DeviceFormat(g);
    kind = g.specials == kPower ? Kind::kPower : g.is_float() ? Kind::kMinifloat : Kind::kOther;
    if (kind == Kind::kMinifloat) minifloat = FloatCoder(g);
    largest = scale_max(g);
    float best = 0;
    for (int c = 0; c < g.codes(); ++c) {
      const float v = decode(g, static_cast<uint32_t>(c));
      if (v > 0 && is_finite(v) && (best == 0 || v < best)) best = v, least = static_cast<uint32_t>(c);
    }
  }

  // T of ref/scaling.h.
  __device__ __forceinline__ float unit_extent() const {
    if (!is_codebook) return extent;
    const float low = codebook[0], high = codebook[last_code];
    return -low > high ? -low : high;
  }
  __device__ __forceinline__ uint32_t nearest(float x) const {
    if (kind == Kind::kMinifloat) return minifloat.nearest(x);
    if (format.row.is_int()) return codec_detail::encode_int(format.row, x);
    uint32_t c = 0;
    while (c < max_code(format.row) &&
           codec_detail::above_midpoint(decode_one(format, c, nullptr), decode_one(format, c + 1, nullptr), x)) {
      ++c;
    }
    return c;
  }
  // The code of a coded scale, `per` = T times the scale of the scale.
  __device__ __forceinline__ uint32_t code(float width, float unit_width, float per) const {
    if (kind == Kind::kPower) {
      if (width == 0) return static_cast<uint32_t>(format.row.bias);
      const int e = floor_log2_of(width) - floor_log2_of(unit_width * unit) + format.row.bias;
      return static_cast<uint32_t>(min(max(e, 0), static_cast<int>(max_code(format.row))));
    }
    if (width == 0) return nearest(0.0f);
    const float x = width / per;
    const uint32_t c = nearest(largest < x ? largest : x);
    return decode_one(format, c, nullptr) > 0 ? c : least;
  }
  // Of a code of this rule, without a scale of its own.
  __device__ __forceinline__ float value(uint32_t c) const { return decode_one(format, c, nullptr); }
  // A float scale as it is stored.
  __device__ __forceinline__ float stored(float width, float unit_width) const {
    return stored_scale_of(width / unit_width, dtype);
  }
  __device__ __forceinline__ uint32_t zero_code(const Extent& e, float scale) const {
    return zero.nearest(scale == 0 ? 0.0f : -e.low() / scale);
  }
};

}  // namespace lowbit::cuda
