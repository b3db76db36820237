#include "emu/ptx/parser.h"

#include <algorithm>

namespace emu::ptx {

Space space_of(std::string_view word) {
  if (word == "reg") return Space::kReg;
  if (word == "const") return Space::kConst;
  if (word == "global") return Space::kGlobal;
  if (word == "local") return Space::kLocal;
  if (word == "param") return Space::kParam;
  if (word == "shared") return Space::kShared;
  return Space::kNone;
}

bool Parser::accept(std::string_view mark) {
  if (!peek().is(mark)) return false;
  next();
  return true;
}

bool Parser::accept_dotted(std::string_view word) {
  if (!peek().is_dotted(word)) return false;
  next();
  return true;
}

void Parser::expect(std::string_view mark) {
  if (!accept(mark)) fail_here("'" + std::string(mark) + "'");
}

std::string Parser::expect_name(const char* what) {
  if (peek().kind != Token::Kind::kName) fail_here(what);
  return std::string(next().text);
}

uint64_t Parser::expect_count(const char* what) {
  if (peek().kind != Token::Kind::kInteger) fail_here(what);
  return next().value;
}

void Parser::fail_here(const std::string& expected) const {
  const Token& t = peek();
  const bool ended = t.kind == Token::Kind::kEnd;
  const std::string got =
      ended ? "the end of the text" : "'" + std::string(text_.substr(t.begin, t.end - t.begin)) + "'";
  throw SyntaxError(t.line, "expected " + expected + ", got " + got);
}

void Parser::skip_line() {
  for (const int line = peek().line; peek().kind != Token::Kind::kEnd && peek().line == line;) next();
}

void Parser::skip_pragma() {
  while (!accept(";")) {
    if (peek().kind == Token::Kind::kEnd) fail_here("';' behind .pragma");
    next();
  }
}

void Parser::run() {
  header();
  while (peek().kind != Token::Kind::kEnd) module_item();
}

void Parser::header() {
  if (!accept_dotted("version")) fail_here(".version");
  if (peek().kind != Token::Kind::kFloat) fail_here("a version such as 9.0");
  const std::string version(next().text);
  const std::size_t dot = version.find('.');
  module_.version_major = std::stoi(version.substr(0, dot));
  module_.version_minor = std::stoi(version.substr(dot + 1));
  if (!accept_dotted("target")) fail_here(".target");
  module_.target = expect_name("an architecture such as sm_80");
  while (accept(",")) {
    const Token& option = peek();
    const std::string word = expect_name("a target option");
    if (word != "debug" && word != "texmode_independent" && word != "texmode_unified") {
      throw SyntaxError(option.line, "target option '" + word + "' is not supported");
    }
  }
  if (accept_dotted("address_size")) {
    const int line = peek().line;
    if (expect_count("64") != 64) throw SyntaxError(line, "only .address_size 64 is supported");
  }
}

Parser::Linkage Parser::linkage() {
  Linkage l;
  for (;;) {
    if (accept_dotted("extern")) {
      l.is_extern = true;
    } else if (accept_dotted("visible") || accept_dotted("weak") || accept_dotted("common")) {
      l.is_visible = true;
    } else {
      return l;
    }
  }
}

void Parser::module_item() {
  const Token& first = peek();
  if (accept(";")) return;
  // Line tables, debug sections and hints to ptxas say nothing about what the program computes.
  if (first.is_dotted("file") || first.is_dotted("loc")) return skip_line();
  if (first.is_dotted("section")) return skip_section();
  if (first.is_dotted("pragma")) return skip_pragma();
  if (accept_dotted("alias")) return alias();
  const Linkage l = linkage();
  if (accept_dotted("entry")) return function(true);
  if (accept_dotted("func")) return function(false);
  const Space space = peek().kind == Token::Kind::kDotted ? space_of(peek().text) : Space::kNone;
  if (space == Space::kNone || space == Space::kReg || space == Space::kParam || space == Space::kLocal) {
    fail_here("a declaration");
  }
  next();
  declare_variables(space, l, module_.variables);
}

void Parser::alias() {
  const std::string name = expect_name("the alias");
  expect(",");
  module_.aliases[name] = expect_name("the function it stands for");
  expect(";");
}

void Parser::skip_section() {
  next();
  next();
  expect("{");
  for (int depth = 1; depth > 0; next()) {
    if (peek().kind == Token::Kind::kEnd) fail_here("'}' of .section");
    depth += peek().is("{") ? 1 : peek().is("}") ? -1 : 0;
  }
}

bool parse(std::string_view text, Module* module, std::string* error) {
  try {
    *module = Module();
    Parser(text, *module).run();
    return true;
  } catch (const SyntaxError& e) {
    *error = e.what();
    return false;
  }
}

}  // namespace emu::ptx
