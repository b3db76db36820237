#include "emu/exec/decoder.h"

#include <algorithm>
#include <cstring>

#include "emu/exec/linker.h"
#include "emu/exec/special.h"
#include "emu/memory/memory.h"

namespace emu {
namespace {

using ptx::Operand;
using ptx::Type;
using Kind = Operand::Kind;

// Sub-word values live in 32-bit lanes.
int lane_bits(int bits) { return bits == 1 ? 1 : bits <= 32 ? 32 : bits; }
int operand_bits(Type t) { return t == Type::kPred ? 1 : t == Type::kB1 ? 8 : std::max(ptx::bits_of(t), 8); }
uint64_t low_bits(int bits) { return bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

std::string quoted(const std::string& s) { return "'" + s + "'"; }
std::string type_text(Type t) { return t == Type::kNone ? "(no type)" : std::string(".") + ptx::name_of(t); }

// ld, st and cvt take registers wider than their type; so do 8-bit operands, for which PTX has hardly registers.
bool width_fits(const std::string& opcode, Type declared, Type asked) {
  const int have = operand_bits(declared), want = operand_bits(asked);
  if (have == want) return true;
  if (have == 1 || want == 1 || have < want) return false;
  return want == 8 ? have <= 32 || opcode == "ld" || opcode == "st" || opcode == "cvt"
                   : opcode == "ld" || opcode == "ldu" || opcode == "st" || opcode == "cvt";
}

}  // namespace

void Decoder::fail(std::string why) {
  if (error_.empty()) error_ = std::move(why);
}

void Decoder::keep_plan(std::shared_ptr<const void> plan) { code_.plans.push_back(std::move(plan)); }

// ---- modifiers

std::string_view Decoder::peek() const {
  for (std::size_t i = 0; i < st.modifiers.size(); ++i) {
    if (!taken_[i]) return st.modifiers[i];
  }
  return {};
}

bool Decoder::take(std::string_view modifier) {
  for (std::size_t i = 0; i < st.modifiers.size(); ++i) {
    if (taken_[i]) continue;
    if (st.modifiers[i] != modifier) return false;
    taken_[i] = true;
    return true;
  }
  return false;
}

bool Decoder::take_anywhere(std::string_view modifier) {
  for (std::size_t i = 0; i < st.modifiers.size(); ++i) {
    if (taken_[i] || st.modifiers[i] != modifier) continue;
    taken_[i] = true;
    return true;
  }
  return false;
}

int Decoder::take_one_of(std::initializer_list<std::string_view> modifiers) {
  int index = 0;
  for (const std::string_view m : modifiers) {
    if (take(m)) return index;
    ++index;
  }
  return -1;
}

Type Decoder::take_type() {
  const std::string_view word = peek();
  const Type t = ptx::type_of(word);
  if (t != Type::kNone) take(word);
  return t;
}

// ---- operands

const Operand* Decoder::operand_at(int operand) {
  if (operand < 0 || operand >= operands()) {
    fail("needs more than " + std::to_string(operands()) + " operands");
    return nullptr;
  }
  seen_[static_cast<std::size_t>(operand)] = true;
  return &st.operands[static_cast<std::size_t>(operand)];
}

void Decoder::source(int operand, Type type) {
  if (const Operand* o = operand_at(operand)) add_source(*o, type);
}

void Decoder::destination(int operand, Type type) {
  if (const Operand* o = operand_at(operand)) add_destination(*o, type);
}

void Decoder::source_constant(uint64_t bits, Type type) {
  s_.push_back(linker_.constant(bits & low_bits(operand_bits(type)), lane_bits(operand_bits(type))));
}

void Decoder::add_source(const Operand& o, Type type) {
  if (type == Type::kNone) return fail("an operand has no type");
  if (o.negated && type != Type::kPred) return fail("'!' before " + quoted(o.name) + ", which is no predicate here");
  switch (o.kind) {
    case Kind::kRegister: return add_register_source(o, type);
    case Kind::kSpecial: return add_special_source(o, type);
    case Kind::kInteger:
      if (ptx::is_floating(type) && operand_bits(type) >= 32 && type != Type::kF16x2 && type != Type::kBF16x2) {
        return fail("integer constant where " + type_text(type) + " is needed");
      }
      return source_constant(type == Type::kPred ? o.bits != 0 : o.bits, type);
    case Kind::kFloat: return add_float_source(o, type);
    case Kind::kSymbol: return add_symbol_source(o, type);
    case Kind::kVector:
      for (const Operand& part : o.parts) add_source(part, type);
      return;
    case Kind::kSink: return fail("'_' where a value is needed");
    case Kind::kAddress: return fail("an address where a value is needed");
    case Kind::kPair: return fail("a pair p|q where a value is needed");
    case Kind::kList: return fail("a list where a value is needed");
  }
}

void Decoder::add_register_source(const Operand& o, Type type) {
  const Linker::RegisterRef r = linker_.find_register(o.name);
  if (!width_fits(st.opcode, r.type, type)) {
    return fail("register " + quoted(o.name) + " is " + type_text(r.type) + " where " + type_text(type) + " is needed");
  }
  if (o.negated) {
    Instr complement;
    complement.run = complement_predicate;
    const Unit d = linker_.scratch(1);
    linker_.insert_before(complement, {d}, {r.unit});
    s_.push_back(d);
  } else if (lane_bits(operand_bits(r.type)) == lane_bits(operand_bits(type))) {
    s_.push_back(r.unit);
  } else if (ptx::bits_of(r.type) == 64) {
    Instr narrow;
    narrow.run = narrow_register;
    narrow.imm = static_cast<int64_t>(low_bits(operand_bits(type)));
    const Unit d = linker_.scratch(32);
    linker_.insert_before(narrow, {d}, {r.unit});
    s_.push_back(d);
  } else {
    fail("register " + quoted(o.name) + " is " + type_text(r.type) + " where " + type_text(type) + " is needed");
  }
}

void Decoder::add_special_source(const Operand& o, Type type) {
  const SpecialRegister special = find_special(o.name);
  if (special.width == 0) return fail(quoted(o.name) + " is no register");
  if (special.width != operand_bits(type)) {
    return fail(quoted(o.name) + " has " + std::to_string(special.width) + " bits where " + type_text(type) +
                " is needed");
  }
  if (special.read == nullptr) {
    s_.push_back(linker_.filled({0, special.width, special.fill, special.axis, special.bits, ""}));
    return;
  }
  Instr read;
  read.run = special.read;
  const Unit d = linker_.scratch(special.width);
  linker_.insert_before(read, {d}, {});
  s_.push_back(d);
}

void Decoder::add_float_source(const Operand& o, Type type) {
  const int bits = operand_bits(type);
  const bool is_integer = type != Type::kB32 && type != Type::kB64 && !ptx::is_floating(type);
  if (is_integer || (bits != 32 && bits != 64))
    return fail("floating constant where " + type_text(type) + " is needed");
  uint64_t pattern = o.bits;
  if (o.float_bits == 64 && bits == 32) {
    double wide;
    std::memcpy(&wide, &pattern, 8);
    const float narrow = static_cast<float>(wide);
    uint32_t word;
    std::memcpy(&word, &narrow, 4);
    pattern = word;
  } else if (o.float_bits == 32 && bits == 64) {
    float narrow;
    const uint32_t word = static_cast<uint32_t>(pattern);
    std::memcpy(&narrow, &word, 4);
    const double wide = narrow;
    std::memcpy(&pattern, &wide, 8);
  }
  source_constant(pattern, type);
}

void Decoder::add_symbol_source(const Operand& o, Type type) {
  const int bits = operand_bits(type);
  if (bits != 32 && bits != 64)
    return fail("the address of " + quoted(o.name) + " where " + type_text(type) + " is needed");
  const Linker::SymbolRef symbol = linker_.find_symbol(o.name);
  const uint64_t value = symbol.value + static_cast<uint64_t>(o.offset);
  if (symbol.is_fixed) return source_constant(value, type);
  if (bits != 64) return fail("the address of " + quoted(o.name) + " has 64 bits");
  s_.push_back(linker_.filled({0, 64, Fill::kSymbol, 0, value, o.name}));
}

void Decoder::add_destination(const Operand& o, Type type) {
  if (type == Type::kNone) return fail("an operand has no type");
  switch (o.kind) {
    case Kind::kSink: d_.push_back(linker_.scratch(operand_bits(type))); return;
    case Kind::kVector:
      for (const Operand& part : o.parts) add_destination(part, type);
      return;
    case Kind::kPair:
      add_destination(o.parts[0], type);
      add_destination(o.parts[1], Type::kPred);
      return;
    case Kind::kRegister: break;
    default: return fail("a destination must be a register");
  }
  if (o.negated) return fail("'!' before the destination " + quoted(o.name));
  const Linker::RegisterRef r = linker_.find_register(o.name);
  if (!width_fits(st.opcode, r.type, type)) {
    return fail("register " + quoted(o.name) + " is " + type_text(r.type) + " where " + type_text(type) + " is needed");
  }
  if (lane_bits(operand_bits(r.type)) == lane_bits(operand_bits(type))) {
    d_.push_back(r.unit);
  } else if (ptx::bits_of(r.type) == 64) {
    Instr widen;
    widen.run = widen_register;
    widen.type = type;
    const Unit s = linker_.scratch(32);
    linker_.insert_after(widen, {r.unit}, {s});
    d_.push_back(s);
  } else {
    fail("register " + quoted(o.name) + " is " + type_text(r.type) + " where " + type_text(type) + " is needed");
  }
}

int Decoder::vector_size(int operand) const {
  if (operand < 0 || operand >= operands()) return 0;
  const Operand& o = st.operands[static_cast<std::size_t>(operand)];
  return o.kind == Kind::kVector ? static_cast<int>(o.parts.size()) : 1;
}

Address Decoder::address(int operand, ptx::Space space) {
  Address a;
  a.space = space;
  a.source = static_cast<int>(s_.size());
  const Operand* o = operand_at(operand);
  if (o == nullptr) return a;
  if (o->kind != Kind::kAddress || o->parts.size() != 1) {
    fail("operand " + std::to_string(operand + 1) + " must be an address [...]");
    return a;
  }
  const Operand& base = o->parts[0];
  a.offset = o->offset;
  if (base.kind == Kind::kRegister) {
    const Linker::RegisterRef r = linker_.find_register(base.name);
    const int bits = ptx::bits_of(r.type);
    if (bits != 32 && bits != 64) {
      fail("register " + quoted(base.name) + " is " + type_text(r.type) + " where an address is needed");
      return a;
    }
    a.narrow = bits == 32;
    if (space == ptx::Space::kParam && !linker_.function().is_entry) a.space = ptx::Space::kLocal;
    s_.push_back(r.unit);
    return a;
  }
  if (base.kind == Kind::kInteger) {
    a.offset += static_cast<int64_t>(base.bits);
    s_.push_back(linker_.constant(0, 64));
    return a;
  }
  const Linker::SymbolRef symbol = linker_.find_symbol(base.name);
  if (symbol.space == ptx::Space::kNone) {
    fail(quoted(base.name) + " is a function, which has no memory");
  } else if (space == ptx::Space::kNone && symbol.is_fixed) {
    a.offset += static_cast<int64_t>(symbol.space == ptx::Space::kShared  ? kSharedWindow
                                     : symbol.space == ptx::Space::kLocal ? kLocalWindow
                                                                          : kParamWindow);
  } else if (space == ptx::Space::kParam && symbol.space == ptx::Space::kLocal) {
    a.space = ptx::Space::kLocal;
  } else if (space != ptx::Space::kNone && space != symbol.space) {
    fail(quoted(base.name) + " does not lie in the space of this instruction");
  }
  if (symbol.is_fixed) {
    a.offset += static_cast<int64_t>(symbol.value);
    s_.push_back(linker_.constant(0, 64));
  } else {
    s_.push_back(linker_.filled({0, 64, Fill::kSymbol, 0, symbol.value, base.name}));
  }
  return a;
}

void Decoder::member_mask(int operand) {
  source(operand, Type::kB32);
  if (s_.empty() || failed()) return;
  instr.member_mask = s_.back();
  s_.pop_back();
}

bool Decoder::is_immediate(int operand) const {
  return operand >= 0 && operand < operands() && st.operands[static_cast<std::size_t>(operand)].kind == Kind::kInteger;
}

int64_t Decoder::immediate(int operand) {
  const Operand* o = operand_at(operand);
  if (o == nullptr) return 0;
  if (o->kind != Kind::kInteger) {
    fail("operand " + std::to_string(operand + 1) + " must be an integer constant");
    return 0;
  }
  return static_cast<int64_t>(o->bits);
}

Type Decoder::register_type(int operand) const {
  if (operand < 0 || operand >= operands()) return Type::kNone;
  const Operand* o = &st.operands[static_cast<std::size_t>(operand)];
  while ((o->kind == Kind::kVector || o->kind == Kind::kPair) && !o->parts.empty()) {
    const Operand* named = nullptr;
    for (const Operand& part : o->parts) {
      if (named == nullptr && part.kind != Kind::kSink) named = &part;
    }
    if (named == nullptr) return Type::kNone;
    o = named;
  }
  return o->kind == Kind::kRegister ? linker_.find_register(o->name).type : Type::kNone;
}

void Decoder::label(int operand) {
  const Operand* o = operand_at(operand);
  if (o == nullptr) return;
  if (o->kind != Kind::kSymbol || linker_.function().labels.count(o->name) == 0) {
    return fail("operand " + std::to_string(operand + 1) + " must be a label of this function");
  }
  linker_.branch_to(o->name);
}

const std::vector<uint32_t>* Decoder::labels(int operand) {
  const Operand* o = operand_at(operand);
  if (o == nullptr) return nullptr;
  if (o->kind != Kind::kSymbol || linker_.function().branch_targets.count(o->name) == 0) {
    fail("operand " + std::to_string(operand + 1) + " must name a .branchtargets list");
    return nullptr;
  }
  return linker_.branch_table(o->name);
}

const Call* Decoder::call() {
  for (std::size_t i = 0; i < seen_.size(); ++i) seen_[i] = true;
  return linker_.call(*this);
}

std::string Decoder::leftover() const {
  for (std::size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i]) return "unknown modifier ." + st.modifiers[i];
  }
  for (std::size_t i = 0; i < seen_.size(); ++i) {
    if (!seen_[i]) return "operand " + std::to_string(i + 1) + " is not known to this instruction";
  }
  return {};
}

}  // namespace emu
