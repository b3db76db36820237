// A PTX module as the parser leaves it: declarations and statements, nothing resolved, nothing judged.
// PTX ISA 9.0, chapters 4 to 6 (syntax, state spaces, operands).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace emu::ptx {

// Fundamental and packed types of PTX, and the sub-byte element types that only mma and cvt name.
enum class Type : uint8_t {
  kNone,
  kPred,
  kB1,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU2,
  kU4,
  kU8,
  kU16,
  kU32,
  kU64,
  kS2,
  kS4,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBF16,
  kBF16x2,
  kTF32,
  kF32,
  kF32x2,
  kF64,
  kE4M3,
  kE5M2,
  kE3M2,
  kE2M3,
  kE2M1,
  kE4M3x2,
  kE5M2x2,
  kE3M2x2,
  kE2M3x2,
  kE2M1x2,
  kE4M3x4,
  kE5M2x4,
  kE3M2x4,
  kE2M3x4,
  kE2M1x4,
  kUE8M0,
  kUE4M3,
  kUE8M0x2,
  kU16x2,
  kS16x2,
  kU8x4,
  kS8x4,
};
// "s32" -> kS32; kNone when it is no type.
Type type_of(std::string_view name);
const char* name_of(Type t);
Type bits_type(int bits);  // kB8 to kB128; kNone where there is none
int bits_of(Type t);       // of a register operand of that type: kF16x2 32, kE4M3x2 16, kPred 1
bool is_signed(Type t);
bool is_floating(Type t);

enum class Space : uint8_t { kNone, kReg, kConst, kGlobal, kLocal, kParam, kShared };

struct Operand {
  enum class Kind : uint8_t {
    kRegister,  // name; negated: !p
    kSpecial,   // name with its dot: "%tid.x"
    kInteger,   // bits (two's complement)
    kFloat,     // bits: the IEEE pattern of 0f (float_bits 32) or 0d (64), or of a decimal literal as f64
    kSymbol,    // name of a variable, function, label or kernel parameter, + offset
    kAddress,   // [parts[0] + offset]; parts[0] a register, a symbol or an integer
    kVector,    // {parts...}
    kPair,      // parts[0] | parts[1]: two destinations
    kSink,      // _
    kList,      // (parts...): arguments of a call
  };
  Kind kind = Kind::kSink;
  bool negated = false;
  int float_bits = 0;
  uint64_t bits = 0;
  int64_t offset = 0;
  std::string name;
  std::vector<Operand> parts;
};

struct Statement {
  int line = 0;       // of the PTX text, from 1
  std::string text;   // as written, white space folded
  std::string guard;  // predicate register of @p; empty: none
  bool guard_negated = false;
  std::string opcode;                  // "ld"
  std::vector<std::string> modifiers;  // {"global", "nc", "v4", "u32"}, in order; "L2::128B" keeps its colons
  std::vector<Operand> operands;
};

// A register declared by .reg. Names of nested scopes are made unique by the parser ("temp#3"), uses included.
struct Register {
  std::string name;
  Type type = Type::kNone;
};

struct Variable {
  std::string name;  // of nested scopes made unique like registers
  Space space = Space::kNone;
  Type type = Type::kNone;  // of an element
  uint64_t align = 1;
  uint64_t bytes = 0;  // 0: extern array without a size (dynamic shared memory)
  bool is_extern = false;
  bool is_visible = false;
  std::vector<uint8_t> initial;  // shorter than bytes: the rest is zero
  struct Relocation {            // the address of `symbol` + addend stands at `at`, `width` bytes
    uint64_t at;
    int width;
    std::string symbol;
    int64_t addend;
    bool generic;   // generic(symbol)
    int shift = 0;  // mask(symbol), a byte of an address: the address >> shift
  };
  std::vector<Relocation> relocations;
  int line = 0;
};

struct Prototype {  // .callprototype
  std::vector<Variable> parameters, results;
};

struct Function {
  std::string name;
  bool is_entry = false;
  bool has_body = false;
  int line = 0;
  std::vector<Variable> parameters;                         // space kParam (or kReg registers of .func)
  std::vector<Variable> results;                            // of .func
  std::map<std::string, std::vector<uint64_t>> directives;  // "maxntid" -> {256, 1, 1}; "noreturn" -> {}
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .local, .shared, .param, .const declared inside
  std::vector<Statement> body;
  std::map<std::string, uint32_t> labels;  // label -> index of the statement behind it (may be body.size())
  std::map<std::string, std::vector<std::string>> branch_targets;  // .branchtargets
  std::map<std::string, std::vector<std::string>> call_targets;    // .calltargets
  std::map<std::string, Prototype> prototypes;                     // .callprototype
};

struct Module {
  int version_major = 0, version_minor = 0;
  std::string target;                          // "sm_80", "sm_120f"
  std::vector<Variable> variables;             // .global, .const, .shared at module scope
  std::vector<Function> functions;             // a name has one entry; a prototype is replaced by the definition
  std::map<std::string, std::string> aliases;  // .alias
};

// Parses `text`; on failure returns false and says in `error` what stands at which line.
bool parse(std::string_view text, Module* module, std::string* error);

}  // namespace emu::ptx
