// A kernel and all it calls, laid out and decoded. Places of parameters, variables and call arguments are decided first
// (exec/layout.cpp), then every function is decoded once (exec/linker.cpp), at last register units are packed
// (exec/registers.cpp).
#pragma once

#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "emu/exec/decoder.h"
#include "emu/exec/program.h"

namespace emu {

struct LinkError : std::runtime_error {
  using std::runtime_error::runtime_error;
  LinkError(int line, const std::string& what) : std::runtime_error("line " + std::to_string(line) + ": " + what) {}
};

// A run of units that is one register, constant or scratch value.
struct VirtualRegister {
  Unit unit = 0;
  uint32_t units = 1;
  bool is_predicate = false;  // one bit a lane
  int function = -1;          // whose code alone uses it; -1: constants, fills and what crosses a call: never moved
};

// Where control goes behind an instruction, inside its function.
struct Successors {
  static constexpr uint32_t kNone = ~uint32_t{0};
  bool falls_through = true;
  uint32_t branch = kNone;
  const std::vector<uint32_t>* table = nullptr;
};

struct RegisterUse {
  std::vector<VirtualRegister> registers;                // ascending, without gaps
  std::vector<std::pair<uint32_t, uint32_t>> functions;  // [begin, end) of their instructions
  std::vector<Successors> successors;                    // one an instruction
};
// The call at `instr` runs the function that begins at `entry`, and comes back behind itself.
struct CallEdge {
  uint32_t instr, entry;
};
// Fills Code::loops and Code::loop_of. The units of a loop are the first ones of registers, until these are packed.
void find_loops(const RegisterUse& use, const std::vector<CallEdge>& calls, Code& code);

// Gives registers that are never alive together the same units (liveness of one thread: threads that diverge keep their
// own lanes of a unit). Rewrites the operands, the fills, the
// loops and Code::units.
void pack_registers(const RegisterUse& use, Code& code);

// Where everything that has a name lies, before any statement is decoded.
struct FunctionLayout {
  const ptx::Function* function = nullptr;
  std::map<std::string, Place> places;                                 // formals and variables of the function
  std::vector<Place> results, parameters;                              // of formals in .param
  std::map<const ptx::Statement*, std::vector<std::string>> indirect;  // its indirect calls: functions they can reach
};
struct Layout {
  std::vector<FunctionLayout> functions;  // [0] is the kernel
  std::map<std::string, int> index;       // by name
  std::map<std::string, Place> shared;    // module variables in .shared
};
// Decides them and sets the sizes of `code`. Throws LinkError.
Layout lay_out(const ptx::Module& module, const std::string& kernel, Code& code);
const ptx::Function* find_function(const ptx::Module& module, const std::string& name);  // through aliases
// Parts of a `call` statement.
struct CallOperands {
  const ptx::Operand* callee = nullptr;
  const ptx::Operand* results = nullptr;    // kList or null
  const ptx::Operand* arguments = nullptr;  // kList or null
  std::string prototype;                    // of an indirect call: name of its prototype or list of targets
};
CallOperands call_operands(const ptx::Statement& st);
// Whether a function can stand behind an indirect call with this prototype.
bool same_signature(const std::vector<ptx::Variable>& a, const std::vector<ptx::Variable>& b);

class Linker {
 public:
  Linker(const ptx::Module& module, Code& code) : module_(module), code_(code) {}
  void run(const std::string& kernel);

  // ---- for the Decoder
  struct RegisterRef {
    Unit unit;
    ptx::Type type;
  };
  RegisterRef find_register(const std::string& name);  // throws where it is not declared
  Unit scratch(int bits);
  Unit constant(uint64_t bits, int width);
  Unit filled(Filled f);  // shared by all who ask for the same
  // The address that a symbol names, in its own space. is_fixed: a constant, else a fill of that symbol.
  struct SymbolRef {
    ptx::Space space;
    bool is_fixed;
    uint64_t value;
  };
  SymbolRef find_symbol(const std::string& name) const;
  const ptx::Function& function() const { return *layout_.functions[static_cast<std::size_t>(current_)].function; }
  const Call* call(Decoder& d);
  void branch_to(const std::string& label) { pending_branch_ = label; }
  const std::vector<uint32_t>* branch_table(const std::string& list);
  void insert_before(Instr i, std::vector<Unit> d, std::vector<Unit> s);
  void insert_after(Instr i, std::vector<Unit> d, std::vector<Unit> s);

 private:
  struct Inserted {
    Instr instr;
    std::vector<Unit> d, s;
  };
  void decode_function(int index);
  void decode_statement(const ptx::Statement& st);
  void append(Instr instr, std::vector<Unit> d, std::vector<Unit> s, Successors next);
  void move_argument(const ptx::Variable& formal, const std::string& callee, const ptx::Operand& actual, bool is_result,
                     std::vector<ptx::Statement>& moves);
  void gather_operands();
  const ptx::Statement& own(ptx::Statement st);
  Unit new_register(int bits, int function);

  const ptx::Module& module_;
  Code& code_;
  Layout layout_;
  RegisterUse use_;
  std::map<std::tuple<int, int, int, uint64_t, std::string>, Unit> fills_;  // fill, width, axis, bits, symbol
  std::unordered_map<std::string, RegisterRef> crossing_;  // registers that are formals, as "function/name"
  // the function that is being decoded
  int current_ = 0;
  std::unordered_map<std::string, RegisterRef> registers_;
  std::unordered_map<std::string, ptx::Type> declared_;
  // the statement that is being decoded
  const ptx::Statement* statement_ = nullptr;
  std::string pending_branch_;
  const std::vector<uint32_t>* pending_table_ = nullptr;
  std::string pending_callee_;
  std::vector<Inserted> before_, after_;
  std::vector<const ptx::Statement*> moves_before_, moves_after_;
  // labels that are known at the end of the function
  std::vector<std::pair<uint32_t, std::string>> branches_;
  std::vector<std::pair<std::vector<uint32_t>*, std::vector<std::string>>> tables_;
  // entries that are known once all is decoded
  std::vector<std::pair<uint32_t, std::string>> calls_;
  std::vector<std::pair<Call*, std::vector<std::string>>> indirect_calls_;
};

}  // namespace emu
