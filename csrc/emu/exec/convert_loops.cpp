// The conversions that inner loops are made of, as loops over the lanes that vectorize.
#include <cmath>

#include "emu/exec/convert.h"
#include "emu/exec/half_float.h"
#include "emu/exec/lanes.h"

namespace emu {
namespace {

using ptx::Type;

struct F32OfF16 {
  float operator()(uint16_t h) const {
    const float f = f16_value(h);
    return f != f ? bits_as<float>(0x7fffffffu) : f;
  }
};
struct F32OfBF16 {
  float operator()(uint16_t h) const {
    const float f = bf16_value(h);
    return f != f ? bits_as<float>(0x7fffffffu) : f;
  }
};
struct F16OfF32 {
  uint16_t operator()(float f) const { return static_cast<uint16_t>(f16_bits(f)); }
};
struct BF16OfF32 {
  uint16_t operator()(float f) const { return static_cast<uint16_t>(bf16_bits(f)); }
};
template <class Half>
struct PairOfF32 {
  uint32_t operator()(float high, float low) const { return uint32_t{Half()(high)} << 16 | Half()(low); }
};
struct F32OfInteger {
  template <class T>
  float operator()(T v) const {
    return static_cast<float>(v);
  }
};
struct F64OfInteger {
  template <class T>
  double operator()(T v) const {
    return static_cast<double>(v);
  }
};
struct F64OfF32 {
  double operator()(float v) const { return v; }
};
template <bool kTruncate>
struct S32OfF32 {
  int32_t operator()(float v) const {
    const float r = kTruncate ? std::trunc(v) : std::nearbyint(v);
    const bool fits = r >= -0x1p31f && r < 0x1p31f;
    const int32_t inside = static_cast<int32_t>(fits ? r : 0.0f);
    return fits ? inside : r > 0 ? INT32_MAX : r < 0 ? INT32_MIN : 0;
  }
};

}  // namespace

Instr::Handler conversion_loop(const Modifiers& m) {
  if (m.set == kRn) {
    if (m.type == Type::kF16 && m.type2 == Type::kF32) return map_lanes<F16OfF32, uint16_t, float>;
    if (m.type == Type::kBF16 && m.type2 == Type::kF32) return map_lanes<BF16OfF32, uint16_t, float>;
    if (m.type == Type::kF16x2 && m.type2 == Type::kF32) return map_lanes<PairOfF32<F16OfF32>, uint32_t, float, float>;
    if (m.type == Type::kBF16x2 && m.type2 == Type::kF32) {
      return map_lanes<PairOfF32<BF16OfF32>, uint32_t, float, float>;
    }
    if (m.type == Type::kF32 && m.type2 == Type::kS32) return map_lanes<F32OfInteger, float, int32_t>;
    if (m.type == Type::kF32 && m.type2 == Type::kU32) return map_lanes<F32OfInteger, float, uint32_t>;
    if (m.type == Type::kF64 && m.type2 == Type::kS32) return map_lanes<F64OfInteger, double, int32_t>;
    if (m.type == Type::kF64 && m.type2 == Type::kU32) return map_lanes<F64OfInteger, double, uint32_t>;
  }
  if (m.set == 0) {
    if (m.type == Type::kF32 && m.type2 == Type::kF16) return map_lanes<F32OfF16, float, uint16_t>;
    if (m.type == Type::kF32 && m.type2 == Type::kBF16) return map_lanes<F32OfBF16, float, uint16_t>;
    if (m.type == Type::kF64 && m.type2 == Type::kF32) return map_lanes<F64OfF32, double, float>;
  }
  if (m.type == Type::kS32 && m.type2 == Type::kF32) {
    if (m.set == kRzi) return map_lanes<S32OfF32<true>, int32_t, float>;
    if (m.set == kRni) return map_lanes<S32OfF32<false>, int32_t, float>;
  }
  return nullptr;
}

}  // namespace emu
