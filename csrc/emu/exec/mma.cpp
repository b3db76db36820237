// Decoding of mma.sync (PTX ISA 9.0, 9.7.14.5) and what all its types share: fragments from and to registers.
#include "emu/exec/mma.h"

#include <cfenv>
#include <cstring>
#include <string>

#include "emu/exec/decoder.h"
#include "emu/exec/mma_layout.h"

namespace emu {
namespace {

using ptx::Type;

struct Shape {
  const char* name;
  int m, k;
};
constexpr Shape kShapes[] = {
    {"m8n8k4", 8, 4},     {"m8n8k16", 8, 16},     {"m8n8k32", 8, 32},     {"m8n8k128", 8, 128},
    {"m16n8k4", 16, 4},   {"m16n8k8", 16, 8},     {"m16n8k16", 16, 16},   {"m16n8k32", 16, 32},
    {"m16n8k64", 16, 64}, {"m16n8k128", 16, 128}, {"m16n8k256", 16, 256},
};

enum class Kind { kNone, kF8F6F4, kMxF8F6F4, kMxF4, kMxF4NvF4 };

bool is_e2m1(Type t) { return t == Type::kE2M1; }
bool is_f8(Type t) { return t == Type::kE4M3 || t == Type::kE5M2; }
bool is_f8f6f4(Type t) { return is_f8(t) || t == Type::kE3M2 || t == Type::kE2M3 || is_e2m1(t); }
bool is_integer(Type t) { return t == Type::kS8 || t == Type::kU8 || t == Type::kS4 || t == Type::kU4; }

// The shapes that exist for each element type: m, then k times bits a element = 128 (half size) or 256.
bool shape_exists(const Shape& s, int bits, bool has_m8) {
  if (s.m == 8) return has_m8 && s.k * bits == 128;
  return s.k * bits == 128 || s.k * bits == 256;
}

struct Names {
  Kind kind = Kind::kNone;
  bool block_scale = false;
  int scale_vector = 0;  // 1, 2, 4; 0: not written
  const Shape* shape = nullptr;
  Type d = Type::kNone, a = Type::kNone, b = Type::kNone, c = Type::kNone, scale = Type::kNone;
};

// The vectors of a, b, c and d as sources and destinations.
void take_operands(Decoder& d, const MmaPlan& p, Type element, Type accumulator) {
  const int expected[] = {p.registers_c, p.registers_a, p.registers_b, p.registers_c};
  for (int o = 0; o < 4; ++o) {
    if (d.vector_size(o) != expected[o]) {
      d.fail("mma: operand " + std::to_string(o) + " must be a vector of " + std::to_string(expected[o]) +
             " registers, got " + std::to_string(d.vector_size(o)));
      return;
    }
  }
  d.destination(0, accumulator);
  d.source(1, element);
  d.source(2, element);
  d.source(3, accumulator);
}

void expect_operands(Decoder& d, int count) {
  if (d.operands() != count) {
    d.fail("mma: needs " + std::to_string(count) + " operands, got " + std::to_string(d.operands()));
  }
}

void finish(Decoder& d, MmaPlan plan, Instr::Handler run) {
  d.instr.run = run;
  d.instr.flow = Flow::kWarpSync;
  d.instr.cls = Class::kTensor;
  d.instr.plan = d.keep(plan);
}

void set_registers(MmaPlan& p, int bits, int accumulators) {
  p.registers_a = p.m * p.k * bits / (32 * 32);
  p.registers_b = 8 * p.k * bits / (32 * 32);
  p.registers_c = accumulators;
}

void decode_integer(Decoder& d, const Names& n, MmaPlan p, bool saturate) {
  const bool narrow = n.a == Type::kS4 || n.a == Type::kU4;
  if (!is_integer(n.b) || narrow != (n.b == Type::kS4 || n.b == Type::kU4) || n.c != Type::kS32 || n.d != Type::kS32) {
    return d.fail("mma: types of an integer mma are s32, two of the same width, s32");
  }
  p.bits = narrow ? 4 : 8;
  if (!shape_exists(*n.shape, p.bits, true))
    return d.fail(std::string("mma: no shape ") + n.shape->name + " of its types");
  p.signed_a = n.a == Type::kS8 || n.a == Type::kS4;
  p.signed_b = n.b == Type::kS8 || n.b == Type::kS4;
  p.saturate = saturate;
  set_registers(p, p.bits, p.m == 16 ? 4 : 2);
  expect_operands(d, 4);
  take_operands(d, p, Type::kB32, Type::kS32);
  finish(d, p, run_mma_integer);
}

void decode_binary(Decoder& d, const Names& n, MmaPlan p, bool exclusive_or) {
  if (n.b != Type::kB1 || n.c != Type::kS32 || n.d != Type::kS32)
    return d.fail("mma: types of b1 are s32, b1, b1, s32");
  if (!shape_exists(*n.shape, 1, true)) return d.fail(std::string("mma: no shape ") + n.shape->name + " of b1");
  p.bits = 1;
  p.exclusive_or = exclusive_or;
  set_registers(p, 1, p.m == 16 ? 4 : 2);
  expect_operands(d, 4);
  take_operands(d, p, Type::kB32, Type::kS32);
  finish(d, p, run_mma_binary);
}

void decode_double(Decoder& d, const Names& n, MmaPlan p, int rounding) {
  if (n.b != Type::kF64 || n.c != Type::kF64 || n.d != Type::kF64) return d.fail("mma: all types must be f64");
  const bool exists = p.m == 8 ? p.k == 4 : (p.k == 4 || p.k == 8 || p.k == 16);
  if (!exists) return d.fail(std::string("mma: no shape ") + n.shape->name + " of f64");
  p.rounding = rounding;
  p.registers_a = p.m * p.k / 32;
  p.registers_b = 8 * p.k / 32;
  p.registers_c = p.m == 16 ? 4 : 2;
  expect_operands(d, 4);
  take_operands(d, p, Type::kF64, Type::kF64);
  finish(d, p, run_mma_double);
}

void decode_float(Decoder& d, const Names& n, MmaPlan p) {
  int bits = 16;
  bool half_allowed = true;
  if (n.kind == Kind::kF8F6F4) {
    if (!is_f8f6f4(n.a) || !is_f8f6f4(n.b)) return d.fail("mma: kind::f8f6f4 is of e4m3, e5m2, e3m2, e2m3 and e2m1");
    p.operand = MmaOperand::kF8F6F4;
    bits = 8;
  } else if (n.a == Type::kF16 && n.b == Type::kF16) {
    if (p.m == 8)
      return d.fail("mma: m8n8k4 of f16 (the quad pairs of sm_70) is not modelled; use m16n8k8 or m16n8k16");
    p.operand = MmaOperand::kF16;
  } else if (n.a == Type::kBF16 && n.b == Type::kBF16) {
    p.operand = MmaOperand::kBF16;
    half_allowed = false;
  } else if (n.a == Type::kTF32 && n.b == Type::kTF32) {
    p.operand = MmaOperand::kTF32;
    bits = 32;
    half_allowed = false;
  } else if (is_f8(n.a) && is_f8(n.b)) {
    p.operand = MmaOperand::kF8;
    bits = 8;
  } else {
    return d.fail(std::string("mma: no form of types ") + ptx::name_of(n.a) + " and " + ptx::name_of(n.b));
  }
  if (!shape_exists(*n.shape, bits, false))
    return d.fail(std::string("mma: no shape ") + n.shape->name + " of its types");
  if (n.c != n.d || (n.d != Type::kF32 && !(half_allowed && n.d == Type::kF16))) {
    return d.fail("mma: the accumulator types do not go with these elements");
  }
  p.half = n.d == Type::kF16;
  p.a = &element_of(n.a, true);
  p.b = &element_of(n.b, true);
  set_registers(p, bits, p.half ? 2 : 4);
  expect_operands(d, 4);
  take_operands(d, p, Type::kB32, p.half ? Type::kB32 : Type::kF32);
  finish(d, p, run_mma_float);
}

void decode_scaled(Decoder& d, const Names& n, MmaPlan p) {
  if (n.c != Type::kF32 || n.d != Type::kF32) return d.fail("mma: block-scaled accumulators must be f32");
  const bool mxf8 = n.kind == Kind::kMxF8F6F4;
  if (mxf8 ? !(is_f8f6f4(n.a) && is_f8f6f4(n.b)) : !(is_e2m1(n.a) && is_e2m1(n.b))) {
    return d.fail("mma: these elements do not go with the kind");
  }
  const int k = mxf8 ? 32 : 64;
  if (p.m != 16 || p.k != k) return d.fail(std::string("mma: no shape ") + n.shape->name + " of this kind");
  p.scale_ue4m3 = n.scale == Type::kUE4M3;
  const int vector = n.scale_vector != 0 ? n.scale_vector : (mxf8 ? 1 : n.kind == Kind::kMxF4 ? 2 : 0);
  const bool exists = mxf8                    ? vector == 1 && !p.scale_ue4m3
                      : n.kind == Kind::kMxF4 ? vector == 2 && !p.scale_ue4m3
                      : p.scale_ue4m3         ? vector == 4
                                              : vector == 2;
  if (!exists) return d.fail("mma: scale_vec and the scale type do not go with the kind");
  p.scale_blocks = vector;
  p.packed_e2m1 = !mxf8;
  p.operand = mxf8 ? MmaOperand::kMxF8F6F4 : MmaOperand::kMxF4;
  p.a = &element_of(n.a, mxf8);
  p.b = &element_of(n.b, mxf8);
  set_registers(p, mxf8 ? 8 : 4, 4);
  expect_operands(d, 8);
  take_operands(d, p, Type::kB32, Type::kF32);
  for (const int scales : {4, 6}) {
    if (d.vector_size(scales) != 1 || d.vector_size(scales + 1) != 2) {
      return d.fail("mma: scales must be one register and {byte id, thread id}");
    }
    d.source(scales, Type::kB32);
    d.source(scales + 1, Type::kU16);
  }
  finish(d, p, run_mma_scaled);
}

Kind take_kind(Decoder& d) {
  if (d.take_anywhere("kind::f8f6f4")) return Kind::kF8F6F4;
  if (d.take_anywhere("kind::mxf8f6f4")) return Kind::kMxF8F6F4;
  if (d.take_anywhere("kind::mxf4")) return Kind::kMxF4;
  if (d.take_anywhere("kind::mxf4nvf4")) return Kind::kMxF4NvF4;
  return Kind::kNone;
}

void decode_mma(Decoder& d) {
  if (!d.take("sync") || !d.take("aligned"))
    return d.fail("mma: only mma.sync.aligned is modelled, not the sparse mma.sp");
  Names n;
  n.kind = take_kind(d);
  n.block_scale = d.take_anywhere("block_scale");
  if (d.take_anywhere("scale_vec::1X")) n.scale_vector = 1;
  if (d.take_anywhere("scale_vec::2X")) n.scale_vector = 2;
  if (d.take_anywhere("scale_vec::4X")) n.scale_vector = 4;
  const bool saturate = d.take_anywhere("satfinite");
  const bool population = d.take_anywhere("popc");
  const bool exclusive_or = d.take_anywhere("xor"), conjunction = d.take_anywhere("and");
  const bool row = d.take_anywhere("row"), col = d.take_anywhere("col");
  int rounding = -1;
  if (d.take_anywhere("rn")) rounding = FE_TONEAREST;
  if (d.take_anywhere("rz")) rounding = FE_TOWARDZERO;
  if (d.take_anywhere("rm")) rounding = FE_DOWNWARD;
  if (d.take_anywhere("rp")) rounding = FE_UPWARD;
  for (const Shape& s : kShapes) {
    if (d.take(s.name)) {
      n.shape = &s;
      break;
    }
  }
  if (n.shape == nullptr) return d.fail("mma: unknown shape ." + std::string(d.peek()));
  n.d = d.take_type();
  n.a = d.take_type();
  n.b = d.take_type();
  n.c = d.take_type();
  if (n.block_scale) n.scale = d.take_type();
  if (n.c == Type::kNone) return d.fail("mma: needs the four types of d, a, b and c");
  if (!row || !col) return d.fail("mma: only .row.col exists for these shapes");

  MmaPlan p;
  p.m = n.shape->m;
  p.k = n.shape->k;
  d.instr.type = n.a;
  d.instr.type2 = n.d;
  const bool b1 = n.a == Type::kB1, f64 = n.a == Type::kF64, integer = is_integer(n.a);
  if (b1 ? !(population && exclusive_or != conjunction) : population || exclusive_or || conjunction) {
    return d.fail("mma: .and.popc or .xor.popc goes with b1, and only there");
  }
  if (saturate && !integer) return d.fail("mma: .satfinite goes with s8, u8, s4 and u4 only");
  if (rounding >= 0 && !f64) return d.fail("mma: a rounding mode goes with f64 only");
  const bool scaled_kind = n.kind != Kind::kNone && n.kind != Kind::kF8F6F4;
  if (n.block_scale != scaled_kind || (n.scale_vector != 0 && !scaled_kind)) {
    return d.fail("mma: .block_scale and .scale_vec go with kind::mxf8f6f4, mxf4 and mxf4nvf4, and only there");
  }
  if (scaled_kind) {
    if (n.scale != Type::kUE8M0 && n.scale != Type::kUE4M3) return d.fail("mma: the scale type must be ue8m0 or ue4m3");
    return decode_scaled(d, n, p);
  }
  if (integer) return decode_integer(d, n, p, saturate);
  if (b1) return decode_binary(d, n, p, exclusive_or);
  if (f64) return decode_double(d, n, p, rounding >= 0 ? rounding : FE_TONEAREST);
  decode_float(d, n, p);
}

// Rows of 16 bytes: those of the first register, then of the next one along k (layout::rows_are_contiguous).
void gather(const Warp& w, const Unit* units, int registers, int down, uint8_t* rows) {
  const int pitch = 16 * registers / down;
  for (int r = 0; r < registers; ++r) {
    const uint32_t* words = w.u32(units[r]);
    uint8_t* to = rows + 8 * (r % down) * pitch + 16 * (r / down);
    for (int row = 0; row < 8; ++row) std::memcpy(to + row * pitch, words + 4 * row, 16);
  }
}

}  // namespace

extern const InstructionRow kMmaInstructions[];
const InstructionRow kMmaInstructions[] = {{"mma", decode_mma}, {nullptr, nullptr}};

void gather_a(const Warp& w, const Unit* units, const MmaPlan& p, uint8_t* rows) {
  gather(w, units, p.registers_a, p.m / 8, rows);
}
void gather_b(const Warp& w, const Unit* units, const MmaPlan& p, uint8_t* rows) {
  gather(w, units, p.registers_b, 1, rows);
}

// c_cell: the registers 2 h and 2 h + 1 are the even and odd columns of 8 rows, lane by lane.
void gather_c(const Warp& w, const Unit* units, int m, uint32_t* words) {
  for (int half = 0; half < m / 8; ++half) {
    const uint32_t* even = w.u32(units[2 * half]);
    const uint32_t* odd = w.u32(units[2 * half + 1]);
    for (int lane = 0; lane < kLanes; ++lane) {
      words[64 * half + 2 * lane] = even[lane];
      words[64 * half + 2 * lane + 1] = odd[lane];
    }
  }
}

void scatter_d(const Warp& w, const Unit* units, int m, const uint32_t* words) {
  for (int half = 0; half < m / 8; ++half) {
    uint32_t* even = w.u32(units[2 * half]);
    uint32_t* odd = w.u32(units[2 * half + 1]);
    for (int lane = 0; lane < kLanes; ++lane) {
      even[lane] = words[64 * half + 2 * lane];
      odd[lane] = words[64 * half + 2 * lane + 1];
    }
  }
}

bool whole_warp(Warp& w, Mask active) {
  if (active == ~Mask{0}) return true;
  w.block->launch->report(Finding::kBadArgument, w, __builtin_ctz(active),
                          "mma.sync must be run by all 32 lanes of the warp, got the mask " + std::to_string(active));
  return false;
}

}  // namespace emu
