// Functions, their directives, registers, variables and initial values.
#include <algorithm>
#include <cstring>

#include "emu/ptx/parser.h"

namespace emu::ptx {
namespace {

uint64_t bytes_of(Type t) { return static_cast<uint64_t>(bits_of(t) + 7) / 8; }

uint64_t align_up(uint64_t x, uint64_t a) { return (x + a - 1) / a * a; }

// Directives between the head of a function and its body. Counts bound what a launch may ask for; the others tell ptxas
// how to allocate or say what the emulator sees anyway.
constexpr const char* kDirectives[] = {"maxntid",        "reqntid",           "minnctapersm",    "maxnctapersm",
                                       "maxnreg",        "noreturn",          "explicitcluster", "reqnctapercluster",
                                       "maxclusterrank", "blocksareclusters", "abi_preserve",    "abi_preserve_control",
                                       "unified",        "language"};

}  // namespace

// One module is one program: visibility decides nothing, and an extern function is one without a body.
void Parser::function(bool is_entry) {
  Function f;
  f.is_entry = is_entry;
  f.line = peek().line;
  scopes_.assign(1, {});
  uses_.clear();
  function_ = &f;
  if (accept("(")) parameters(f.results, ")");
  f.name = expect_name("a function name");
  if (accept("(")) parameters(f.parameters, ")");
  for (std::vector<Variable>* formals : {&f.results, &f.parameters}) {
    for (Variable& v : *formals) {
      const std::string name = v.name;
      if (name == "_") throw SyntaxError(f.line, "a parameter of '" + f.name + "' has no name");
      declare(name, v.space == Space::kReg, &v.name);
      if (v.space == Space::kReg) f.registers.push_back({v.name, v.type});
    }
  }
  directives(f);
  if (!accept(";")) {
    body(f);
    f.has_body = true;
  }
  function_ = nullptr;
  for (Function& known : module_.functions) {
    if (known.name != f.name) continue;
    if (known.has_body && f.has_body) throw SyntaxError(f.line, "'" + f.name + "' is defined twice");
    if (f.has_body) known = std::move(f);
    return;
  }
  module_.functions.push_back(std::move(f));
}

void Parser::directives(Function& f) {
  while (peek().kind == Token::Kind::kDotted) {
    if (peek().is_dotted("pragma")) {
      skip_pragma();
      continue;
    }
    const std::string word(peek().text);
    if (std::find(std::begin(kDirectives), std::end(kDirectives), word) == std::end(kDirectives)) {
      fail_here("a function directive, ';' or '{'");
    }
    next();
    std::vector<uint64_t>& values = f.directives[word];
    if (peek().kind == Token::Kind::kString) next();
    if (peek().kind == Token::Kind::kInteger) {
      do {
        values.push_back(expect_count("a count"));
      } while (accept(","));
    }
  }
}

void Parser::parameters(std::vector<Variable>& into, const char* close) {
  if (accept(close)) return;
  do {
    into.push_back(parameter());
  } while (accept(","));
  expect(close);
}

// .param .u64 .ptr .global .align 16 name   |   .param .align 8 .b8 name[24]   |   .reg .b32 name
Variable Parser::parameter() {
  Variable v;
  v.line = peek().line;
  v.space = peek().kind == Token::Kind::kDotted ? space_of(peek().text) : Space::kNone;
  if (v.space != Space::kParam && v.space != Space::kReg) fail_here(".param or .reg");
  next();
  uint64_t align = 0;
  bool is_pointer = false;
  for (; peek().kind == Token::Kind::kDotted;) {
    if (accept_dotted("align")) {
      const uint64_t value = expect_count("an alignment");
      if (!is_pointer) align = value;  // of what a .ptr points to: nothing about the parameter
    } else if (accept_dotted("ptr")) {
      is_pointer = true;
    } else if (is_pointer && space_of(peek().text) != Space::kNone) {
      next();
    } else if (v.type == Type::kNone && type_of(peek().text) != Type::kNone) {
      v.type = type_of(next().text);
    } else {
      fail_here("a parameter type or name");
    }
  }
  if (v.type == Type::kNone) fail_here("a parameter type");
  v.name = expect_name("a parameter name");
  uint64_t elements = 1;
  if (accept("[")) {
    elements = peek().is("]") ? 0 : static_cast<uint64_t>(expression());
    expect("]");
  }
  v.align = std::max<uint64_t>(align, align == 0 ? bytes_of(v.type) : 1);
  v.bytes = elements * bytes_of(v.type);
  return v;
}

void Parser::declare_register() {
  if (peek().kind != Token::Kind::kDotted) fail_here("a register type");
  const Type type = type_of(peek().text);
  if (type == Type::kNone || (bits_of(type) < 8 && type != Type::kPred)) fail_here("a register type");
  next();
  do {
    const std::string name = expect_name("a register name");
    if (accept("<")) {
      const uint64_t count = expect_count("a count of registers");
      expect(">");
      for (uint64_t i = 0; i < count; ++i) {
        std::string unique;
        declare(name + std::to_string(i), true, &unique);
        function_->registers.push_back({std::move(unique), type});
      }
    } else {
      std::string unique;
      declare(name, true, &unique);
      function_->registers.push_back({std::move(unique), type});
    }
  } while (accept(","));
  expect(";");
}

void Parser::declare_variables(Space space, Linkage linkage, std::vector<Variable>& into) {
  Variable v;
  v.space = space;
  v.is_extern = linkage.is_extern;
  v.is_visible = linkage.is_visible;
  uint64_t align = 0, vector = 1;
  for (; peek().kind == Token::Kind::kDotted;) {
    if (accept_dotted("align")) {
      align = expect_count("an alignment");
      if (align == 0 || (align & (align - 1)) != 0) {
        throw SyntaxError(peek().line, "alignment " + std::to_string(align) + " is no power of two");
      }
    } else if (accept_dotted("v2")) {
      vector = 2;
    } else if (accept_dotted("v4")) {
      vector = 4;
    } else if (accept_dotted("attribute")) {  // .managed, .unified: where the driver keeps it, not what it holds
      expect("(");
      while (!accept(")")) {
        if (peek().kind == Token::Kind::kEnd) fail_here("')' of .attribute");
        next();
      }
    } else if (v.type == Type::kNone && type_of(peek().text) != Type::kNone && type_of(peek().text) != Type::kPred) {
      v.type = type_of(next().text);
    } else {
      fail_here("a variable type or name");
    }
  }
  if (v.type == Type::kNone) fail_here("a variable type");
  v.bytes = vector * bytes_of(v.type);
  v.align = std::max(align, align == 0 ? v.bytes : 1);
  do {
    declarator(v, into);
  } while (accept(","));
  expect(";");
}

void Parser::declarator(Variable v, std::vector<Variable>& into) {
  v.line = peek().line;
  const std::string name = expect_name("a variable name");
  v.name = name;
  if (function_ != nullptr) declare(name, false, &v.name);
  const uint64_t element = v.bytes;
  bool open = false;  // the first dimension follows from the initial values
  uint64_t inner = 1;
  for (bool first = true; accept("["); first = false) {
    if (peek().is("]")) {
      if (!first) fail_here("the size of an inner dimension");
      open = true;
    } else {
      const int64_t size = expression();
      if (size < 0) throw SyntaxError(v.line, "'" + name + "' has a negative size");
      inner *= static_cast<uint64_t>(size);
    }
    expect("]");
  }
  v.bytes = open ? 0 : element * inner;
  if (accept("=")) {
    if (v.space != Space::kGlobal && v.space != Space::kConst) {
      throw SyntaxError(v.line, "'" + name + "' cannot have an initial value in its space");
    }
    initializer(v);
    const uint64_t given = align_up(v.initial.size(), element * inner);
    if (open) v.bytes = given;
    if (v.initial.size() > v.bytes) throw SyntaxError(v.line, "'" + name + "' has more initial values than elements");
  } else if (open && !v.is_extern) {
    throw SyntaxError(v.line, "'" + name + "' has neither a size nor an initial value");
  }
  for (Variable& known : into) {
    if (known.name != v.name) continue;
    if (!known.is_extern && !v.is_extern) throw SyntaxError(v.line, "'" + name + "' is defined twice");
    if (known.is_extern) known = std::move(v);
    return;
  }
  into.push_back(std::move(v));
}

// Nested braces only group: PTX lists the elements of all dimensions in order, short inner lists being padded by nvcc.
void Parser::initializer(Variable& v) {
  const uint64_t element = bytes_of(v.type);
  uint64_t at = 0;
  if (!peek().is("{")) return initial_element(v, 0);
  int depth = 0;
  do {
    while (accept("{")) ++depth;
    if (!peek().is("}")) {
      initial_element(v, at);
      at += element;
    }
    while (depth > 0 && accept("}")) --depth;
  } while (depth > 0 && (expect(","), true));
}

void Parser::store_initial(Variable& v, uint64_t at, uint64_t bits, uint64_t bytes) {
  if (v.initial.size() < at + bytes) v.initial.resize(at + bytes);
  for (uint64_t i = 0; i < bytes; ++i) v.initial[at + i] = i < 8 ? static_cast<uint8_t>(bits >> (8 * i)) : 0;
}

void Parser::initial_element(Variable& v, uint64_t at) {
  const uint64_t bytes = bytes_of(v.type);
  const bool masked = peek().kind == Token::Kind::kInteger && peek(1).is("(");
  if (peek().kind == Token::Kind::kName || masked) {
    Variable::Relocation r{at, static_cast<int>(bytes), "", 0, false};
    if (masked) {  // 0xFF00(symbol): the second byte of its address
      uint64_t mask = next().value;
      while (mask != 0 && (mask & 0xFF) == 0) mask >>= 8, r.shift += 8;
      if (mask != 0xFF || bytes != 1) fail_here("a mask of one byte");
      expect("(");
    }
    if (peek().text == "generic" && peek(1).is("(")) {
      next(), next();
      r.generic = true;
      r.symbol = expect_name("a symbol");
      r.addend = offset();
      expect(")");
    } else {
      r.symbol = expect_name("a symbol");
    }
    r.addend += offset();
    if (masked) expect(")");
    store_initial(v, at, 0, bytes);
    v.relocations.push_back(r);
    return;
  }
  const Operand c = constant();
  uint64_t bits = c.bits;
  if (is_floating(v.type) && c.kind != Operand::Kind::kFloat) fail_here("floating values in '" + v.name + "'");
  if (c.kind == Operand::Kind::kFloat && c.float_bits == 64 && bytes == 4) {
    double wide;
    std::memcpy(&wide, &bits, 8);
    const float narrow = static_cast<float>(wide);
    uint32_t pattern;
    std::memcpy(&pattern, &narrow, 4);
    bits = pattern;
  } else if (c.kind == Operand::Kind::kFloat && static_cast<uint64_t>(c.float_bits) != bytes * 8) {
    fail_here("a value of the width of '" + v.name + "'");
  }
  store_initial(v, at, bits, bytes);
}

}  // namespace emu::ptx
