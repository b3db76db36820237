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

struct Address {
  Unit base = kNoUnit;  // uint64_t[32] (32-bit registers are widened: narrow == true says the unit holds uint32_t[32])
  bool narrow = false;
  int64_t offset = 0;   // symbols are in it already, or in base where their address is known only at load
};

class Linker;  // exec/linker.cpp: registers, constants, symbols of the Code being built

class Decoder {
 public:
  Decoder(const ptx::Statement& statement, Linker& linker, Code& code) : st(statement), linker_(linker), code_(code) {}

  const ptx::Statement& st;

  // ---- modifiers, from left to right
  bool take(std::string_view modifier);       // consumes the next modifier if it is this one
  bool take_anywhere(std::string_view modifier);  // consumes it wherever it stands
  // Consumes the next modifier if it is one of these and gives its index, else -1.
  int take_one_of(std::initializer_list<std::string_view> modifiers);
  ptx::Type take_type();                      // the next modifier as a type; kNone and nothing consumed if it is none
  std::string_view peek() const;              // the next modifier, or empty

  // ---- operands (index = position in the statement)
  int operands() const { return static_cast<int>(st.operands.size()); }
  // Appends to the sources (destinations) of the Instr. `type` gives the width and how immediates are read; vectors are
  // flattened, each part of `type`. A destination `_` becomes a scratch unit. A kPair appends both parts: the second as
  // kPred. For a negated predicate source the Linker inserts a complement into a scratch unit before this instruction.
  void source(int operand, ptx::Type type);
  void destination(int operand, ptx::Type type);
  // Appends a 32-bit constant as a source (for example a membermask or a default).
  void source_constant(uint64_t bits, ptx::Type type);
  int vector_size(int operand) const;  // parts of a kVector, 1 for others
  Address address(int operand, ptx::Space space);
  // The value of an immediate operand; fails when it is not one.
  int64_t immediate(int operand);
  bool is_immediate(int operand) const;
  // A label as instruction index (resolved after the whole function is decoded, into Instr::target).
  void label(int operand);
  ptx::Type register_type(int operand) const;  // declared type of a register operand

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
  Linker& linker_;
  Code& code_;
  std::vector<Unit> d_, s_;
  std::vector<bool> taken_;
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
