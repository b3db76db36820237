// ld, ldu, st, prefetch, prefetchu, cvta, isspacep, createpolicy, discard, applypriority. PTX ISA 9.0, 9.7.9.
#include <cstring>
#include <string>

#include "emu/exec/memory_operands.h"

namespace emu {
namespace {

using ptx::Space;
using ptx::Type;

struct Plan {
  Access access;
  bool narrow = false;    // 32-bit address
  uint32_t element = 0;   // bytes of one element in memory
  uint32_t lane = 0;      // bytes of one element in a lane
  uint64_t sign = 0;      // sign bit of the element in memory, 0: not extended
  uint64_t extended = 0;  // bits of the register that the extension fills
};

const Plan& plan_of(const Instr& i) { return *static_cast<const Plan*>(i.plan); }

// Element k of every lane, from the rows of a vector access to the unit of its register, or back.
template <class T>
void gather(std::byte* unit, const std::byte* rows, uint32_t stride, uint32_t at, Mask active) {
  T* d = reinterpret_cast<T*>(unit);
  if (active == ~Mask{0}) {
    for (int l = 0; l < kLanes; l++)
      std::memcpy(&d[l], rows + size_t{stride} * static_cast<unsigned>(l) + at, sizeof(T));
    return;
  }
  for (Mask m = active; m != 0; m &= m - 1) {
    const unsigned l = static_cast<unsigned>(__builtin_ctz(m));
    std::memcpy(&d[l], rows + size_t{stride} * l + at, sizeof(T));
  }
}

template <class T>
void scatter(const std::byte* unit, std::byte* rows, uint32_t stride, uint32_t at) {
  const T* s = reinterpret_cast<const T*>(unit);
  for (int l = 0; l < kLanes; l++) std::memcpy(rows + size_t{stride} * static_cast<unsigned>(l) + at, &s[l], sizeof(T));
}

struct Wide {  // one lane of a 128-bit register
  uint64_t half[2];
};

void run_load(Warp& w, const Instr& i, Mask active) {
  const Plan& p = plan_of(i);
  uint64_t address[kLanes];
  addresses_of(w, i.s[0], p.narrow, i.imm, address);
  check_address_poison(w, i.s[0], active);
  alignas(64) std::byte rows[kLanes * 32];
  const uint32_t stride = p.access.bytes;
  const Mask unwritten = load(w, active, p.access, address, rows, stride);
  for (uint32_t k = 0; k < i.nd; k++) {
    std::byte* d = w.registers + size_t{i.d[k]} * 128;
    const uint32_t at = k * p.element;
    switch (p.element) {
      case 16: gather<Wide>(d, rows, stride, at, active); break;
      case 8: gather<uint64_t>(d, rows, stride, at, active); break;
      case 4: gather<uint32_t>(d, rows, stride, at, active); break;
      default:
        for (Mask m = active; m != 0; m &= m - 1) {
          const unsigned l = static_cast<unsigned>(__builtin_ctz(m));
          uint32_t value = 0;
          std::memcpy(&value, rows + size_t{stride} * l + at, p.element);
          if (value & p.sign) value |= static_cast<uint32_t>(p.extended);
          reinterpret_cast<uint32_t*>(d)[l] = value;
        }
    }
    if (w.poison != nullptr) w.poison[i.d[k]] = (w.poison[i.d[k]] & ~active) | (unwritten & active);
  }
}

void run_store(Warp& w, const Instr& i, Mask active) {
  const Plan& p = plan_of(i);
  uint64_t address[kLanes];
  addresses_of(w, i.s[0], p.narrow, i.imm, address);
  check_address_poison(w, i.s[0], active);
  alignas(64) std::byte rows[kLanes * 32];
  const uint32_t stride = p.access.bytes;
  Mask poisoned = 0;
  for (uint32_t k = 1; k < uint32_t{i.count} + 1; k++) {
    const std::byte* s = w.registers + size_t{i.s[k]} * 128;
    const uint32_t at = (k - 1) * p.element;
    if (w.poison != nullptr) poisoned |= w.poison[i.s[k]];
    switch (p.element) {
      case 16: scatter<Wide>(s, rows, stride, at); break;
      case 8: scatter<uint64_t>(s, rows, stride, at); break;
      case 4: scatter<uint32_t>(s, rows, stride, at); break;
      default:
        for (unsigned l = 0; l < kLanes; l++) {
          std::memcpy(rows + size_t{stride} * l + at, reinterpret_cast<const uint32_t*>(s) + l, p.element);
        }
    }
  }
  store(w, active, p.access, address, rows, stride, poisoned & active);
}

// What ld and st have in common up to their type: order, space, hints, vector.
struct Head {
  Plan plan;
  Type type = Type::kNone;
  int count = 1;
  bool has_policy = false;
};

bool is_memory_type(Type t) {
  switch (t) {
    case Type::kB8:
    case Type::kB16:
    case Type::kB32:
    case Type::kB64:
    case Type::kB128:
    case Type::kU8:
    case Type::kU16:
    case Type::kU32:
    case Type::kU64:
    case Type::kS8:
    case Type::kS16:
    case Type::kS32:
    case Type::kS64:
    case Type::kF32:
    case Type::kF64: return true;
    default: return false;
  }
}

// ld.order.scope.space.nc.hints.vector.type; orders of `store` are release, of a load acquire.
Head take_head(Decoder& d, bool store) {
  Head h;
  Access& a = h.plan.access;
  if (d.take("mmio")) {
    if (!d.take("relaxed") || !d.take("sys")) d.fail(".mmio must be followed by .relaxed.sys");
    a.order = Order::kRelaxed;
    a.scope = Scope::kSys;
  } else if (d.take("volatile")) {
    a.order = Order::kVolatile;
    a.scope = Scope::kSys;
  } else if (d.take("relaxed") || d.take(store ? "release" : "acquire")) {
    a.order = d.st.modifiers[0] == "relaxed" ? Order::kRelaxed : store ? Order::kRelease : Order::kAcquire;
    a.scope = take_scope(d);
    if (a.scope == Scope::kNone) d.fail("." + d.st.modifiers[0] + " must have a scope");
  } else {
    d.take("weak");
  }
  a.space = take_space(d);
  if (take_cache_operator(d, store) && a.order != Order::kWeak) d.fail("a cache operator needs a weak access");
  if (!store && d.take("nc")) {
    if (a.space != Space::kGlobal || a.order != Order::kWeak) d.fail(".nc needs a weak access of .global");
    a.read_only = true;
  }
  take_hints(d, &h.has_policy);
  h.count = take_vector(d);
  h.type = d.take_type();
  if (!is_memory_type(h.type))
    d.fail("a memory access must have a type of 8 to 128 bits, got ." + std::string(d.peek()));
  const uint32_t element = h.type == Type::kNone ? 1 : static_cast<uint32_t>(ptx::bits_of(h.type)) / 8;
  a.bytes = element * static_cast<uint32_t>(h.count);
  a.align = a.bytes;
  if (a.bytes > 32 || (a.bytes > 16 && a.space != Space::kGlobal)) {
    d.fail("a vector must have at most 16 bytes (32 in .global), got " + std::to_string(a.bytes));
  }
  h.plan.element = element;
  h.plan.lane = h.type == Type::kNone ? 4 : static_cast<uint32_t>(lane_bytes(h.type));
  return h;
}

void check_vector(Decoder& d, int operand, int count) {
  if (d.vector_size(operand) != count) {
    d.fail("operand " + std::to_string(operand + 1) + " must have " + std::to_string(count) + " registers, got " +
           std::to_string(d.vector_size(operand)));
  }
}

Class load_class(Space s) {
  return s == Space::kGlobal || s == Space::kNone ? Class::kLoadGlobal
         : s == Space::kShared                    ? Class::kLoadShared
                                                  : Class::kLoadOther;
}

Class store_class(Space s) {
  return s == Space::kGlobal || s == Space::kNone ? Class::kStoreGlobal
         : s == Space::kShared                    ? Class::kStoreShared
                                                  : Class::kStoreOther;
}

void finish(Decoder& d, Head h, const Address& address) {
  h.plan.narrow = address.narrow;
  h.plan.access.space = address.space;
  d.instr.imm = address.offset;
  d.instr.space = address.space;
  d.instr.type = h.type;
  d.instr.bytes = static_cast<uint8_t>(h.plan.element);
  d.instr.count = static_cast<uint8_t>(h.count);
  d.instr.plan = d.keep(h.plan);
}

void decode_ld(Decoder& d) {
  Head h = take_head(d, false);
  if (d.failed()) return;
  check_vector(d, 0, h.count);
  const Address address = d.address(1, h.plan.access.space);
  d.destination(0, h.type);
  if (h.has_policy) d.source(2, Type::kB64);
  if (ptx::is_signed(h.type) && h.plan.element < 4) {
    const int bits = ptx::bits_of(d.register_type(0)) <= 16 ? 16 : 32;
    const uint64_t all = bits == 16 ? 0xffff : 0xffffffff;
    h.plan.sign = uint64_t{1} << (h.plan.element * 8 - 1);
    h.plan.extended = all & ~((h.plan.sign << 1) - 1);
  }
  finish(d, h, address);
  d.instr.cls = load_class(address.space);
  d.instr.run = run_load;
}

// ldu: a load that is promised to be uniform and read only; the promise is not needed.
void decode_ldu(Decoder& d) {
  Head h = take_head(d, false);
  if (h.plan.access.order != Order::kWeak || h.has_policy) d.fail("ldu takes a space, a vector and a type alone");
  if (d.failed()) return;
  if (h.plan.access.space != Space::kGlobal && h.plan.access.space != Space::kNone) d.fail("ldu reads .global");
  check_vector(d, 0, h.count);
  const Address address = d.address(1, h.plan.access.space);
  d.destination(0, h.type);
  finish(d, h, address);
  d.instr.cls = load_class(address.space);
  d.instr.run = run_load;
}

void decode_st(Decoder& d) {
  Head h = take_head(d, true);
  if (d.failed()) return;
  if (h.plan.access.space == Space::kConst) return d.fail("st must not write .const");
  check_vector(d, 1, h.count);
  const Address address = d.address(0, h.plan.access.space);
  d.source(1, h.type);
  if (h.has_policy) d.source(2, Type::kB64);
  finish(d, h, address);
  d.instr.cls = store_class(address.space);
  d.instr.run = run_store;
}

// ---- hints

void run_nothing(Warp&, const Instr&, Mask) {}

// prefetch.space.level [a]: moves nothing that a program could see.
void decode_prefetch(Decoder& d) {
  const Space space = take_space(d);
  if (space != Space::kNone && space != Space::kGlobal && space != Space::kLocal)
    return d.fail("prefetch needs .global or .local");
  if (d.take_one_of({"L1", "L2", "L2::evict_last", "L2::evict_normal"}) < 0)
    return d.fail("prefetch must have a cache level");
  d.address(0, space);
  d.instr.run = run_nothing;
}

void decode_prefetchu(Decoder& d) {
  if (!d.take("L1")) return d.fail("prefetchu must be .L1");
  d.address(0, Space::kNone);
  d.instr.run = run_nothing;
}

void decode_applypriority(Decoder& d) {
  const Space space = take_space(d);
  if (space != Space::kNone && space != Space::kGlobal) return d.fail("applypriority needs .global");
  if (!d.take("L2::evict_normal")) return d.fail("applypriority must be .L2::evict_normal");
  d.address(0, space);
  if (d.immediate(1) != 128) return d.fail("applypriority must have the size 128");
  d.instr.run = run_nothing;
}

void run_discard(Warp& w, const Instr& i, Mask active) {
  uint64_t address[kLanes];
  addresses_of(w, i.s[0], (i.flags & 1) != 0, i.imm, address);
  discard(w, active, address, 128);
}

void decode_discard(Decoder& d) {
  const Space space = take_space(d);
  if (space != Space::kNone && space != Space::kGlobal) return d.fail("discard needs .global");
  if (!d.take("L2")) return d.fail("discard must be .L2");
  const Address a = d.address(0, space);
  if (d.immediate(1) != 128) return d.fail("discard must have the size 128");
  d.instr.imm = a.offset;
  d.instr.flags = a.narrow;
  d.instr.cls = Class::kStoreGlobal;
  d.instr.run = run_discard;
}

// A policy is a handle that only cache hints read.
void run_createpolicy(Warp& w, const Instr& i, Mask active) {
  constexpr uint64_t kPolicy = 0x14f0000000000000u;
  uint64_t* policy = w.u64(i.d[0]);
  for (Mask m = active; m != 0; m &= m - 1) policy[__builtin_ctz(m)] = kPolicy;
}

void decode_createpolicy(Decoder& d) {
  const int kind = d.take_one_of({"fractional", "range", "cvt"});
  if (kind < 0) return d.fail("createpolicy must be .fractional, .range or .cvt");
  d.destination(0, Type::kB64);
  d.instr.run = run_createpolicy;
  if (kind == 2) {
    if (!d.take("L2")) return d.fail("createpolicy.cvt must be .L2");
    d.take("b64");
    return d.source(1, Type::kB64);
  }
  if (kind == 1) d.take("global");
  if (d.take_one_of({"L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"}) < 0) {
    return d.fail("createpolicy must have a primary priority");
  }
  d.take_one_of({"L2::evict_first", "L2::evict_unchanged"});
  d.take("b64");
  if (kind == 1) {
    d.address(1, Space::kGlobal);
    d.source(2, Type::kB32);
    d.source(3, Type::kB32);
  } else if (d.operands() > 1) {
    d.source(1, Type::kF32);
  }
}

// ---- generic addresses

uint64_t window_of(Space s) {
  return s == Space::kShared  ? kSharedWindow
         : s == Space::kLocal ? kLocalWindow
         : s == Space::kParam ? kParamWindow
                              : 0;
}

void run_cvta(Warp& w, const Instr& i, Mask active) {
  const uint64_t add = static_cast<uint64_t>(i.imm);
  const uint64_t* s = w.u64(i.s[0]);
  uint64_t* d = w.u64(i.d[0]);
  for (Mask m = active; m != 0; m &= m - 1) {
    const int l = __builtin_ctz(m);
    d[l] = s[l] + add;
  }
}

void decode_cvta(Decoder& d) {
  const bool to = d.take("to");
  const Space space = take_space(d);
  if (space == Space::kNone) return d.fail("cvta must name a space");
  if (d.take_one_of({"u64"}) < 0) return d.fail("cvta must be .u64: generic addresses have 64 bits");
  d.source(1, Type::kU64);
  d.destination(0, Type::kU64);
  const int64_t window = static_cast<int64_t>(window_of(space));
  d.instr.imm = to ? -window : window;
  d.instr.cls = Class::kInteger;
  d.instr.run = run_cvta;
}

void run_isspacep(Warp& w, const Instr& i, Mask active) {
  const uint64_t window = static_cast<uint64_t>(i.imm);
  const uint64_t* s = w.u64(i.s[0]);
  Mask in = 0;
  for (int l = 0; l < kLanes; l++) in |= Mask{(s[l] & ~(kSharedWindow - 1)) == window} << l;
  Mask& p = w.pred(i.d[0]);
  p = (p & ~active) | (in & active);
}

void decode_isspacep(Decoder& d) {
  const Space space = take_space(d);
  if (space == Space::kNone) return d.fail("isspacep must name a space");
  if (space == Space::kConst) return d.fail("isspacep.const is not modelled: constants lie in global memory");
  d.destination(0, Type::kPred);
  d.source(1, Type::kU64);
  d.instr.imm = static_cast<int64_t>(window_of(space));
  d.instr.cls = Class::kInteger;
  d.instr.run = run_isspacep;
}

void decode_cluster(Decoder& d) { d.fail("clusters of blocks are not modelled"); }

}  // namespace

extern const InstructionRow kLoadStoreInstructions[] = {
    {"ld", decode_ld},
    {"ldu", decode_ldu},
    {"st", decode_st},
    {"prefetch", decode_prefetch},
    {"prefetchu", decode_prefetchu},
    {"applypriority", decode_applypriority},
    {"discard", decode_discard},
    {"createpolicy", decode_createpolicy},
    {"cvta", decode_cvta},
    {"isspacep", decode_isspacep},
    {"mapa", decode_cluster},
    {nullptr, nullptr},
};

}  // namespace emu
