// One statement on its way to an Instr. An instruction group registers rows (opcode, decode function); the function
// takes modifiers and operands from the Decoder, and whatever it leaves over is an error that names the line. So an
// unknown modifier is never ignored.
#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "emu/exec/program.h"

namespace emu {

// An address is always "source + offset": where the statement names no register, the source is a constant.
struct Address {
  int source = 0;                        // index into Instr::s
  bool narrow = false;                   // the unit holds uint32_t[32] (a 32-bit register), else uint64_t[32]
  int64_t offset = 0;                    // put it into Instr::imm
  ptx::Space space = ptx::Space::kNone;  // as asked for, but kLocal for the .param space of calls and of .func
};

// A `call` statement. Arguments and results that are registers or constants have become moves beside the call.
struct Call {
  std::string name;       // of the function called directly; empty: indirect, the address is source 0 (uint64_t[32])
  bool has_body = false;  // then Instr::target is its first instruction; else the system must provide it (vprintf, ...)
  std::vector<Place> results, arguments;  // where they lie in the local space of the calling thread
  struct Entry {
    uint64_t address;  // function_address()
    uint32_t target;
  };
  std::vector<Entry> entries;  // indirect: every function it can reach
};

class Linker;  // exec/linker.cpp: registers, constants, symbols of the Code being built

class Decoder {
 public:
  Decoder(const ptx::Statement& statement, Linker& linker, Code& code)
      : st(statement), linker_(linker), code_(code), taken_(st.modifiers.size()), seen_(st.operands.size()) {}

  const ptx::Statement& st;

  // ---- modifiers, from left to right
  bool take(std::string_view modifier);           // consumes the next modifier if it is this one
  bool take_anywhere(std::string_view modifier);  // consumes it wherever it stands
  // Consumes the next modifier if it is one of these and gives its index, else -1.
  int take_one_of(std::initializer_list<std::string_view> modifiers);
  ptx::Type take_type();          // the next modifier as a type; kNone and nothing consumed if it is none
  std::string_view peek() const;  // the next modifier, or empty

  // ---- operands (index = position in the statement)
  int operands() const { return static_cast<int>(st.operands.size()); }
  // Appends to the sources (destinations) of the Instr. `type` gives the width and how immediates are read; vectors are
  // flattened, each part of `type`. A destination `_` becomes a scratch unit. A kPair appends both parts: the second as
  // kPred. For a negated predicate source the Linker inserts a complement into a scratch unit before this instruction.
  // Units are renumbered after decoding (exec/registers.cpp), in Instr::d, s, guard and member_mask: keep none
  // elsewhere. A destination never shares its unit with a source unless the statement says so. A register wider than
  // `type` is allowed for ld, st and cvt only. Where it has 64 bits and `type` fewer, the instruction sees a 32-bit
  // unit and the linker adds the narrowing before, or after it the widening from bits_of(type), signed or not as `type`
  // is; a 32-bit register that gets an 8- or 16-bit type is the handler's (see register_type).
  void source(int operand, ptx::Type type);
  void destination(int operand, ptx::Type type);
  // Appends a 32-bit constant as a source (for example a membermask or a default).
  void source_constant(uint64_t bits, ptx::Type type);
  int vector_size(int operand) const;  // parts of a kVector, 1 for others
  // Appends the base to the sources.
  Address address(int operand, ptx::Space space);
  void member_mask(int operand);  // of kWarpSync: sets Instr::member_mask; no source is appended
  // The value of an immediate operand; fails when it is not one.
  int64_t immediate(int operand);
  bool is_immediate(int operand) const;
  // A label as instruction index (resolved after the whole function is decoded, into Instr::target).
  void label(int operand);
  const std::vector<uint32_t>* labels(
      int operand);                            // the list that .branchtargets gave this name, as instruction indices
  const Call* call();                          // takes all operands of a `call`
  ptx::Type register_type(int operand) const;  // declared type of a register operand (of the first part of a vector)

  // Constant data that lives as long as the Code.
  template <class T>
  const T* keep(T value) {
    auto p = std::make_shared<const T>(std::move(value));
    const T* raw = p.get();
    keep_plan(std::move(p));
    return raw;
  }

  // ---- failure: the first one is kept; decoding functions may go on as if nothing happened
  void fail(std::string why);  // "unknown modifier .foo"
  bool failed() const { return !error_.empty(); }

  Instr instr;

 private:
  friend class Linker;
  void keep_plan(std::shared_ptr<const void> plan);
  const ptx::Operand* operand_at(int operand);
  void add_source(const ptx::Operand& o, ptx::Type type);
  void add_register_source(const ptx::Operand& o, ptx::Type type);
  void add_special_source(const ptx::Operand& o, ptx::Type type);
  void add_float_source(const ptx::Operand& o, ptx::Type type);
  void add_symbol_source(const ptx::Operand& o, ptx::Type type);
  void add_destination(const ptx::Operand& o, ptx::Type type);
  std::string leftover() const;  // a modifier or operand that nobody took, as a sentence
  Linker& linker_;
  Code& code_;
  std::vector<Unit> d_, s_;
  std::vector<bool> taken_;  // modifiers
  std::vector<bool> seen_;   // operands
  std::string error_;
};

using DecodeFunction = void (*)(Decoder&);
struct InstructionRow {
  const char* opcode;
  DecodeFunction decode;
};
// Every group has one table, ended by {nullptr, nullptr}; exec/instruction_set.cpp lists the groups, nothing else does.
DecodeFunction find_instruction(std::string_view opcode);

// Decodes the kernel `name` and all it calls. False: `error` names the PTX line.
bool link(const ptx::Module& module, const std::string& name, Code* code, std::string* error);

}  // namespace emu
