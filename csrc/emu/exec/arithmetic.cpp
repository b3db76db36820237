#include "emu/exec/arithmetic.h"

namespace emu {
namespace {

using ptx::Type;

struct Named {
  const char* name;
  uint32_t bit;
};
constexpr Named kModifiers[] = {
    {"rn", kRn},
    {"rz", kRz},
    {"rm", kRm},
    {"rp", kRp},
    {"rna", kRna},
    {"rs", kRs},
    {"rni", kRni},
    {"rzi", kRzi},
    {"rmi", kRmi},
    {"rpi", kRpi},
    {"ftz", kFtz},
    {"sat", kSat},
    {"satfinite", kSatfinite},
    {"relu", kRelu},
    {"NaN", kNan},
    {"xorsign", kXorsign},
    {"abs", kAbs},
    {"cc", kCc},
    {"lo", kLo},
    {"hi", kHi},
    {"wide", kWide},
    {"approx", kApprox},
    {"full", kFull},
    {"oob", kOob},
    {"clamp", kClamp},
    {"wrap", kWrap},
    {"shiftamt", kShiftamt},
};

}  // namespace

Modifiers take_modifiers(Decoder& d) {
  Modifiers m;
  for (bool taken = true; taken;) {
    taken = false;
    for (const Named& n : kModifiers) {
      if (!d.take(n.name)) continue;
      if (m.has(n.bit)) d.fail(std::string("modifier .") + n.name + " stands twice");
      m.set |= n.bit;
      taken = true;
      break;
    }
    if (taken || m.type2 != Type::kNone) continue;
    const Type t = d.take_type();
    if (t == Type::kNone) continue;
    (m.type == Type::kNone ? m.type : m.type2) = t;
    taken = true;
  }
  return m;
}

void fail_type(Decoder& d, Type type) {
  if (type == Type::kNone) {
    d.fail("a type is missing");
  } else {
    d.fail(std::string("unknown type .") + ptx::name_of(type) + " of " + d.st.opcode);
  }
}

bool check_modifiers(Decoder& d, const Modifiers& m, uint32_t allowed, bool known) {
  if (!known) {
    fail_type(d, m.type);
    return false;
  }
  for (const Named& n : kModifiers) {
    if ((m.set & n.bit & ~allowed) == 0) continue;
    d.fail(std::string("modifier .") + n.name + " does not apply to " + d.st.opcode + " of type ." +
           ptx::name_of(m.type));
    return false;
  }
  return true;
}

bool check_choice(Decoder& d, const Modifiers& m, uint32_t choice, bool required) {
  const int n = __builtin_popcount(m.set & choice);
  if (n == 1 || (n == 0 && !required)) return true;
  std::string names;
  for (const Named& c : kModifiers) {
    if ((choice & c.bit) != 0) names += (names.empty() ? "." : ", .") + std::string(c.name);
  }
  d.fail((n == 0 ? "one is missing of the modifiers " : "more than one stands of the modifiers ") + names);
  return false;
}

bool is_half(Type t) { return t == Type::kF16 || t == Type::kF16x2 || t == Type::kBF16 || t == Type::kBF16x2; }
bool is_single(Type t) { return t == Type::kF32 || t == Type::kF32x2 || t == Type::kF64; }

}  // namespace emu
