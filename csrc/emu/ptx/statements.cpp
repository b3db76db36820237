// Bodies of functions: scopes, labels, statements and their operands.
#include <algorithm>

#include "emu/ptx/parser.h"

namespace emu::ptx {

void Parser::declare(const std::string& name, bool is_register, std::string* unique) {
  const int use = uses_[name]++;
  *unique = use == 0 ? name : name + "#" + std::to_string(use);
  if (!scopes_.back().emplace(name, Name{*unique, is_register}).second) {
    throw SyntaxError(peek().line, "'" + name + "' is declared twice");
  }
}

const Parser::Name* Parser::find(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(name);
    if (found != scope->end()) return &found->second;
  }
  return nullptr;
}

// Labels may be used before they stand, but only where they are visible: so those of a scope are declared as it opens.
void Parser::open_scope() {
  scopes_.emplace_back();
  int depth = 0;
  const std::size_t start = at_;
  for (std::size_t i = at_; depth >= 0 && tokens_[i].kind != Token::Kind::kEnd; ++i) {
    const Token& t = tokens_[i];
    if (t.is("{")) ++depth;
    if (t.is("}")) --depth;
    if (depth != 0 || t.kind != Token::Kind::kName || !tokens_[i + 1].is(":")) continue;
    const Token& before = tokens_[i - 1];
    if (i != start && !before.is(";") && !before.is("{") && !before.is("}") && !before.is(":")) {
      // behind .loc and .file, which end with their line
      if (before.line == t.line) continue;
    }
    std::string unique;
    declare(std::string(t.text), false, &unique);
  }
}

void Parser::body(Function& f) {
  expect("{");
  open_scope();
  const std::size_t outside = scopes_.size() - 1;
  while (scopes_.size() > outside) {
    if (peek().kind == Token::Kind::kEnd) fail_here("'}' of '" + f.name + "'");
    body_item();
  }
}

void Parser::body_item() {
  const Token& t = peek();
  if (accept(";")) return;
  if (accept("{")) return open_scope();
  if (accept("}")) return scopes_.pop_back();
  if (t.kind == Token::Kind::kName && peek(1).is(":")) {
    const std::string label = find(std::string(t.text))->unique;
    next(), next();
    return label_item(label);
  }
  if (t.kind != Token::Kind::kDotted) return statement();
  if (t.is_dotted("loc") || t.is_dotted("file")) return skip_line();
  if (t.is_dotted("pragma")) return skip_pragma();  // "nounroll" and its like: to ptxas
  const Linkage l = linkage();
  const Space space = peek().kind == Token::Kind::kDotted ? space_of(peek().text) : Space::kNone;
  if (space == Space::kNone) fail_here("a declaration or an instruction");
  next();
  if (space == Space::kReg) return declare_register();
  declare_variables(space, l, function_->variables);
}

void Parser::label_item(const std::string& label) {
  if (accept_dotted("branchtargets")) {
    function_->branch_targets[label] = target_list();
  } else if (accept_dotted("calltargets")) {
    function_->call_targets[label] = target_list();
  } else if (accept_dotted("callprototype")) {
    Prototype& p = function_->prototypes[label];
    if (accept("(")) parameters(p.results, ")");
    if (peek().text != "_") fail_here("'_'");
    next();
    if (accept("(")) parameters(p.parameters, ")");
    while (accept_dotted("noreturn") || accept_dotted("abi_preserve") || accept_dotted("abi_preserve_control")) {
      if (peek().kind == Token::Kind::kInteger) next();
    }
    expect(";");
  } else {
    function_->labels[label] = static_cast<uint32_t>(function_->body.size());
  }
}

std::vector<std::string> Parser::target_list() {
  std::vector<std::string> names;
  do {
    const std::string name = expect_name("a label or a function");
    const Name* local = find(name);
    names.push_back(local != nullptr ? local->unique : name);
  } while (accept(","));
  expect(";");
  return names;
}

std::string Parser::folded(std::size_t begin, std::size_t end) const {
  std::string out;
  for (std::size_t i = begin; i < end; ++i) {
    if (i > begin && tokens_[i].begin > tokens_[i - 1].end) out += ' ';
    out += text_.substr(tokens_[i].begin, tokens_[i].end - tokens_[i].begin);
  }
  return out;
}

void Parser::statement() {
  Statement s;
  s.line = peek().line;
  const std::size_t begin = at_;
  if (accept("@")) {
    s.guard_negated = accept("!");
    const std::string name = expect_name("a predicate register");
    const Name* guard = find(name);
    if (guard == nullptr || !guard->is_register) throw SyntaxError(s.line, "'" + name + "' is no predicate register");
    s.guard = guard->unique;
  }
  s.opcode = expect_name("an instruction");
  while (peek().kind == Token::Kind::kDotted) s.modifiers.emplace_back(next().text);
  const bool is_call = s.opcode == "call";
  if (!peek().is(";")) {
    do {
      s.operands.push_back(operand(is_call));
    } while (accept(","));
  }
  if (!peek().is(";")) fail_here("',' or ';'");
  next();
  s.text = folded(begin, at_);
  function_->body.push_back(std::move(s));
}

Operand Parser::list(Operand::Kind kind, const char* close, bool is_call) {
  Operand o;
  o.kind = kind;
  next();
  if (accept(close)) return o;
  do {
    o.parts.push_back(operand(is_call));
  } while (accept(","));
  expect(close);
  return o;
}

Operand Parser::operand(bool is_call) {
  const Token& t = peek();
  if (t.is("{")) return list(Operand::Kind::kVector, "}", false);
  if (t.is("(") && is_call) return list(Operand::Kind::kList, ")", false);
  if (t.is("[")) return address();
  if (t.is("!") && peek(1).kind == Token::Kind::kName) {
    next();
    Operand o = name_operand();
    if (o.kind != Operand::Kind::kRegister)
      throw SyntaxError(t.line, "'!' before '" + o.name + "', which is no register");
    o.negated = true;
    return o;
  }
  if (t.kind != Token::Kind::kName || t.text == "WARP_SZ") return constant();
  Operand first = name_operand();
  if (!accept("|")) return first;
  Operand pair;
  pair.kind = Operand::Kind::kPair;
  pair.parts.push_back(std::move(first));
  pair.parts.push_back(name_operand());
  return pair;
}

int64_t Parser::offset() { return peek().is("+") || peek().is("-") ? expression(4) : 0; }

Operand Parser::name_operand() {
  const Token& t = peek();
  Operand o;
  o.name = expect_name("an operand");
  if (o.name == "_") return o;
  const Name* local = find(o.name);
  if (local != nullptr) {
    o.kind = local->is_register ? Operand::Kind::kRegister : Operand::Kind::kSymbol;
    o.name = local->unique;
  } else if (o.name[0] == '%') {
    o.kind = Operand::Kind::kSpecial;
    if (peek().kind == Token::Kind::kDotted && peek().begin == t.end) o.name += "." + std::string(next().text);
  } else {
    o.kind = Operand::Kind::kSymbol;
  }
  if (o.kind == Operand::Kind::kSymbol) o.offset = offset();
  return o;
}

// [base], [base+imm], [imm], and with coordinates behind the base for tensors
Operand Parser::address() {
  Operand o;
  o.kind = Operand::Kind::kAddress;
  expect("[");
  if (peek().kind == Token::Kind::kName && peek().text != "WARP_SZ") {
    Operand base = name_operand();
    if (base.kind == Operand::Kind::kSpecial || base.kind == Operand::Kind::kSink) {
      throw SyntaxError(peek().line, "'" + base.name + "' is no base of an address");
    }
    o.offset = base.offset + offset();
    base.offset = 0;
    o.parts.push_back(std::move(base));
  } else {
    Operand base;
    base.kind = Operand::Kind::kInteger;
    base.bits = static_cast<uint64_t>(expression());
    o.parts.push_back(base);
  }
  while (accept(",")) o.parts.push_back(operand(false));
  expect("]");
  return o;
}

Operand Parser::constant() {
  Operand o;
  const bool negative = peek().is("-") && peek(1).kind == Token::Kind::kFloat;
  if (negative) next();
  if (peek().kind == Token::Kind::kFloat) {
    const Token& t = next();
    o.kind = Operand::Kind::kFloat;
    o.float_bits = t.float_bits;
    o.bits = t.value ^ (negative ? uint64_t{1} << (t.float_bits - 1) : 0);
    return o;
  }
  o.kind = Operand::Kind::kInteger;
  const Token& t = peek();
  const bool is_sign = t.is("-") || t.is("+") || t.is("~") || t.is("!") || t.is("(");
  if (t.kind != Token::Kind::kInteger && !is_sign && t.text != "WARP_SZ") fail_here("an operand");
  o.bits = static_cast<uint64_t>(expression());
  return o;
}

}  // namespace emu::ptx
