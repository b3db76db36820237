// atom and red. PTX ISA 9.0, 9.7.13.5 and 9.7.13.6.
// Without an order they are relaxed, without a scope of the gpu. A vector is updated as a whole, which is more than the
// ISA promises (each element by itself) and no less.
#include <cmath>
#include <cstring>
#include <string>

#include "emu/exec/half_float.h"
#include "emu/exec/memory_operands.h"

namespace emu {
namespace {

using ptx::Space;
using ptx::Type;

enum Operation : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor, kInc, kDec, kExchange, kCompareExchange };
constexpr const char* kOperationNames[] = {"add", "min", "max", "and", "or", "xor", "inc", "dec", "exch", "cas"};

struct Plan {
  Access access;
  Operation operation = kAdd;
  Type type = Type::kNone;
  uint32_t element = 4;  // bytes
  uint32_t count = 1;    // elements of the vector
  bool narrow = false;
  bool has_result = false;
};

struct Context {
  const Warp* warp;
  const Instr* instr;
  const Plan* plan;
  const uint64_t* address;
};

template <class T>
T lane_value(const Context& c, uint32_t source, int lane) {
  T v;
  const size_t size = sizeof(T) < 4 ? 4 : sizeof(T);
  std::memcpy(&v, c.warp->registers + size_t{c.instr->s[source]} * 128 + size * static_cast<unsigned>(lane), sizeof(T));
  return v;
}

template <class T>
T apply(Operation operation, T a, T b) {
  switch (operation) {
    case kAdd: return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
    case kMin: return b < a ? b : a;
    case kMax: return a < b ? b : a;
    case kAnd: return static_cast<T>(a & b);
    case kOr: return static_cast<T>(a | b);
    case kXor: return static_cast<T>(a ^ b);
    case kInc: return a >= b ? T{0} : static_cast<T>(a + 1);
    case kDec: return a == 0 || a > b ? b : static_cast<T>(a - 1);
    default: return b;
  }
}

template <class T>
void update_integer(const void* old_value, void* new_value, int lane, const void* context) {
  const Context& c = *static_cast<const Context*>(context);
  T a;
  std::memcpy(&a, old_value, sizeof a);
  const T b = lane_value<T>(c, 1, lane);
  T result = apply<T>(c.plan->operation, a, b);
  if (c.plan->operation == kCompareExchange) result = a == b ? lane_value<T>(c, 2, lane) : a;
  std::memcpy(new_value, &result, sizeof result);
}

void update_wide(const void* old_value, void* new_value, int lane, const void* context) {
  struct Wide {
    uint64_t half[2];
  };
  const Context& c = *static_cast<const Context*>(context);
  const Wide b = lane_value<Wide>(c, 1, lane);
  const void* result = &b;
  Wide replacement;
  if (c.plan->operation == kCompareExchange) {
    replacement = lane_value<Wide>(c, 2, lane);
    result = std::memcmp(old_value, &b, sizeof b) == 0 ? static_cast<const void*>(&replacement) : old_value;
  }
  std::memcpy(new_value, result, sizeof b);
}

float flush(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v; }

// In global memory f32 additions flush subnormals, in shared memory they do not (PTX ISA, atom).
float add_f32(float a, float b, bool in_global) { return in_global ? flush(flush(a) + flush(b)) : a + b; }

struct Half {
  static float value(uint16_t h) { return f16_value(h); }
  static uint16_t bits(float f) { return static_cast<uint16_t>(f16_bits(f)); }
};
struct Brain {
  static float value(uint16_t h) { return bf16_value(h); }
  static uint16_t bits(float f) { return static_cast<uint16_t>(bf16_bits(f)); }
};

// A sum in fp32 has more than twice the precision of both formats and two bits, so that rounding it again is one
// rounding.
template <class Format>
uint16_t apply_half(Operation operation, uint16_t a, uint16_t b) {
  const float x = Format::value(a), y = Format::value(b);
  if (operation == kAdd) return Format::bits(x + y);
  if (std::isnan(x)) return std::isnan(y) ? static_cast<uint16_t>(kNanHalf) : b;
  if (std::isnan(y)) return a;
  const bool first =
      operation == kMin ? (x < y || (x == y && std::signbit(x))) : (x > y || (x == y && !std::signbit(x)));
  return first ? a : b;
}

void update_float(const void* old_value, void* new_value, int lane, const void* context) {
  const Context& c = *static_cast<const Context*>(context);
  const Plan& p = *c.plan;
  const auto* from = static_cast<const std::byte*>(old_value);
  auto* to = static_cast<std::byte*>(new_value);
  for (uint32_t k = 0; k < p.count; k++, from += p.element, to += p.element) {
    switch (p.type) {
      case Type::kF32: {
        float a;
        std::memcpy(&a, from, 4);
        const uint64_t address = c.address[lane];
        const bool in_global =
            p.access.space == Space::kGlobal || (p.access.space == Space::kNone && address >> 56 == 0);
        const float sum = add_f32(a, lane_value<float>(c, 1 + k, lane), in_global);
        std::memcpy(to, &sum, 4);
        break;
      }
      case Type::kF64: {
        double a;
        std::memcpy(&a, from, 8);
        a += lane_value<double>(c, 1 + k, lane);
        std::memcpy(to, &a, 8);
        break;
      }
      default: {
        const bool brain = p.type == Type::kBF16 || p.type == Type::kBF16x2;
        const uint32_t b = p.element == 4 ? lane_value<uint32_t>(c, 1 + k, lane) : lane_value<uint16_t>(c, 1 + k, lane);
        for (uint32_t half = 0; half < p.element / 2; half++) {
          uint16_t a;
          std::memcpy(&a, from + 2 * half, 2);
          const auto y = static_cast<uint16_t>(b >> 16 * half);
          a = brain ? apply_half<Brain>(p.operation, a, y) : apply_half<Half>(p.operation, a, y);
          std::memcpy(to + 2 * half, &a, 2);
        }
      }
    }
  }
}

Update update_of(const Plan& p) {
  switch (p.type) {
    case Type::kU32:
    case Type::kB32: return update_integer<uint32_t>;
    case Type::kS32: return update_integer<int32_t>;
    case Type::kU64:
    case Type::kB64: return update_integer<uint64_t>;
    case Type::kS64: return update_integer<int64_t>;
    case Type::kB16: return update_integer<uint16_t>;
    case Type::kB128: return update_wide;
    default: return update_float;
  }
}

void run_atomic(Warp& w, const Instr& i, Mask active) {
  const Plan& p = *static_cast<const Plan*>(i.plan);
  uint64_t address[kLanes];
  addresses_of(w, i.s[0], p.narrow, i.imm, address);
  check_address_poison(w, i.s[0], active);
  const Context context{&w, &i, &p, address};
  alignas(16) std::byte rows[kLanes * 16];
  const uint32_t stride = p.access.bytes;
  atomic(w, active, p.access, address, update_of(p), &context, p.has_result ? rows : nullptr, stride);
  if (!p.has_result) return;
  const size_t lane_size = p.element < 4 ? 4 : p.element;
  for (uint32_t k = 0; k < p.count; k++) {
    std::byte* d = w.registers + size_t{i.d[k]} * 128;
    for (Mask m = active; m != 0; m &= m - 1) {
      const unsigned l = static_cast<unsigned>(__builtin_ctz(m));
      std::memset(d + lane_size * l, 0, lane_size);
      std::memcpy(d + lane_size * l, rows + size_t{stride} * l + size_t{k} * p.element, p.element);
    }
    if (w.poison != nullptr) w.poison[i.d[k]] &= ~active;  // what was unwritten was reported
  }
}

bool is_allowed(const Plan& p, bool has_result) {
  const Type t = p.type;
  const bool u32 = t == Type::kU32, s32 = t == Type::kS32, u64 = t == Type::kU64, s64 = t == Type::kS64;
  const bool b32 = t == Type::kB32, b64 = t == Type::kB64;
  const bool half = t == Type::kF16 || t == Type::kBF16 || t == Type::kF16x2 || t == Type::kBF16x2;
  if (p.count > 1) {
    if (p.access.space != Space::kGlobal && p.access.space != Space::kNone) return false;
    if (t == Type::kF32) return p.operation == kAdd && p.count <= 4;
    return half && (p.operation == kAdd || p.operation == kMin || p.operation == kMax) && p.access.bytes <= 16;
  }
  switch (p.operation) {
    case kAdd: return u32 || s32 || u64 || s64 || t == Type::kF32 || t == Type::kF64 || half;
    case kMin:
    case kMax: return u32 || s32 || u64 || s64;
    case kAnd:
    case kOr:
    case kXor: return b32 || b64;
    case kInc:
    case kDec: return u32;
    case kExchange: return has_result && (b32 || b64 || t == Type::kB128);
    case kCompareExchange: return has_result && (t == Type::kB16 || b32 || b64 || t == Type::kB128);
  }
  return false;
}

void decode(Decoder& d, bool has_result) {
  Plan p;
  Access& a = p.access;
  a.order = Order::kRelaxed;
  a.scope = Scope::kGpu;
  p.has_result = has_result;
  switch (d.take_one_of({"relaxed", "acquire", "release", "acq_rel"})) {
    case 1: a.order = Order::kAcquire; break;
    case 2: a.order = Order::kRelease; break;
    case 3: a.order = Order::kAcquireRelease; break;
    default: break;
  }
  if (!has_result && (a.order == Order::kAcquire || a.order == Order::kAcquireRelease))
    return d.fail("red must be .relaxed or .release");
  // The space stands before or behind the scope.
  a.space = take_space(d);
  const Scope scope = take_scope(d);
  if (scope != Scope::kNone) a.scope = scope;
  if (a.space == Space::kNone) a.space = take_space(d);
  if (a.space != Space::kNone && a.space != Space::kGlobal && a.space != Space::kShared)
    return d.fail("an atomic must be in .global or .shared");
  int operation = -1;
  for (int k = 0; k <= kCompareExchange && operation < 0; k++) {
    if (d.take(kOperationNames[k])) operation = k;
  }
  if (operation < 0) return d.fail("an atomic must have an operation");
  p.operation = static_cast<Operation>(operation);
  const bool noftz = d.take("noftz");
  const bool has_policy = d.take("L2::cache_hint");
  p.count = static_cast<uint32_t>(take_vector(d));
  p.type = d.take_type();
  if (p.type == Type::kNone) return d.fail("an atomic must have a type");
  p.element = static_cast<uint32_t>(ptx::bits_of(p.type)) / 8;
  a.bytes = p.element * p.count;
  a.align = a.bytes;
  if (!is_allowed(p, has_result)) {
    return d.fail(std::string(".") + kOperationNames[operation] + " is not defined for this type, vector and space");
  }
  const bool half = p.type == Type::kF16 || p.type == Type::kBF16 || p.type == Type::kF16x2 || p.type == Type::kBF16x2;
  if (half != noftz) return d.fail(half ? "an atomic of 16-bit floats must be .noftz" : ".noftz is for 16-bit floats");
  int operand = 0;
  if (has_result) d.destination(operand++, p.type);
  const Address address = d.address(operand++, a.space);
  if (d.vector_size(operand) != static_cast<int>(p.count))
    return d.fail("the value must have as many registers as the vector");
  d.source(operand++, p.type);
  if (p.operation == kCompareExchange) d.source(operand++, p.type);
  if (has_policy) d.source(operand, Type::kB64);
  p.narrow = address.narrow;
  d.instr.imm = address.offset;
  d.instr.space = a.space;
  d.instr.type = p.type;
  d.instr.bytes = static_cast<uint8_t>(p.element);
  d.instr.count = static_cast<uint8_t>(p.count);
  d.instr.cls = Class::kAtomic;
  d.instr.plan = d.keep(p);
  d.instr.run = run_atomic;
}

void decode_atom(Decoder& d) { decode(d, true); }
void decode_red(Decoder& d) { decode(d, false); }

}  // namespace

extern const InstructionRow kAtomicsInstructions[] = {{"atom", decode_atom}, {"red", decode_red}, {nullptr, nullptr}};

}  // namespace emu
