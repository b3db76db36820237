#include "emu/ptx/module.h"

namespace emu::ptx {
namespace {

enum Kind : uint8_t { kBits, kUnsigned, kSigned, kFloating };

struct Row {
  Type type;
  const char* name;
  int bits;  // of the register that holds an operand of this type
  Kind kind;
};

constexpr Row kTypes[] = {
    {Type::kNone, "", 0, kBits},
    {Type::kPred, "pred", 1, kBits},
    {Type::kB1, "b1", 1, kBits},
    {Type::kB8, "b8", 8, kBits},
    {Type::kB16, "b16", 16, kBits},
    {Type::kB32, "b32", 32, kBits},
    {Type::kB64, "b64", 64, kBits},
    {Type::kB128, "b128", 128, kBits},
    {Type::kU2, "u2", 2, kUnsigned},
    {Type::kU4, "u4", 4, kUnsigned},
    {Type::kU8, "u8", 8, kUnsigned},
    {Type::kU16, "u16", 16, kUnsigned},
    {Type::kU32, "u32", 32, kUnsigned},
    {Type::kU64, "u64", 64, kUnsigned},
    {Type::kS2, "s2", 2, kSigned},
    {Type::kS4, "s4", 4, kSigned},
    {Type::kS8, "s8", 8, kSigned},
    {Type::kS16, "s16", 16, kSigned},
    {Type::kS32, "s32", 32, kSigned},
    {Type::kS64, "s64", 64, kSigned},
    {Type::kF16, "f16", 16, kFloating},
    {Type::kF16x2, "f16x2", 32, kFloating},
    {Type::kBF16, "bf16", 16, kFloating},
    {Type::kBF16x2, "bf16x2", 32, kFloating},
    {Type::kTF32, "tf32", 32, kFloating},
    {Type::kF32, "f32", 32, kFloating},
    {Type::kF32x2, "f32x2", 64, kFloating},
    {Type::kF64, "f64", 64, kFloating},
    {Type::kE4M3, "e4m3", 8, kFloating},
    {Type::kE5M2, "e5m2", 8, kFloating},
    {Type::kE3M2, "e3m2", 8, kFloating},
    {Type::kE2M3, "e2m3", 8, kFloating},
    {Type::kE2M1, "e2m1", 8, kFloating},
    {Type::kE4M3x2, "e4m3x2", 16, kFloating},
    {Type::kE5M2x2, "e5m2x2", 16, kFloating},
    {Type::kE3M2x2, "e3m2x2", 16, kFloating},
    {Type::kE2M3x2, "e2m3x2", 16, kFloating},
    {Type::kE2M1x2, "e2m1x2", 8, kFloating},
    {Type::kE4M3x4, "e4m3x4", 32, kFloating},
    {Type::kE5M2x4, "e5m2x4", 32, kFloating},
    {Type::kE3M2x4, "e3m2x4", 32, kFloating},
    {Type::kE2M3x4, "e2m3x4", 32, kFloating},
    {Type::kE2M1x4, "e2m1x4", 16, kFloating},
    {Type::kUE8M0, "ue8m0", 8, kFloating},
    {Type::kUE4M3, "ue4m3", 8, kFloating},
    {Type::kUE8M0x2, "ue8m0x2", 16, kFloating},
    {Type::kU16x2, "u16x2", 32, kUnsigned},
    {Type::kS16x2, "s16x2", 32, kSigned},
    {Type::kU8x4, "u8x4", 32, kUnsigned},
    {Type::kS8x4, "s8x4", 32, kSigned},
};
constexpr std::size_t kCount = sizeof(kTypes) / sizeof(kTypes[0]);

constexpr bool rows_are_in_order() {
  for (std::size_t i = 0; i < kCount; ++i) {
    if (kTypes[i].type != static_cast<Type>(i)) return false;
  }
  return true;
}
static_assert(rows_are_in_order() && kTypes[kCount - 1].type == Type::kS8x4,
              "one row a type, in the order of the enum");

const Row& row(Type t) { return kTypes[static_cast<std::size_t>(t)]; }

}  // namespace

Type type_of(std::string_view name) {
  if (name.empty()) return Type::kNone;
  for (const Row& r : kTypes) {
    if (name == r.name) return r.type;
  }
  return Type::kNone;
}

Type bits_type(int bits) {
  switch (bits) {
    case 8: return Type::kB8;
    case 16: return Type::kB16;
    case 32: return Type::kB32;
    case 64: return Type::kB64;
    case 128: return Type::kB128;
    default: return Type::kNone;
  }
}

const char* name_of(Type t) { return row(t).name; }
int bits_of(Type t) { return row(t).bits; }
bool is_signed(Type t) { return row(t).kind == kSigned; }
bool is_floating(Type t) { return row(t).kind == kFloating; }

}  // namespace emu::ptx
