// Recursive descent over the tokens of a module. Names of a function are resolved here: every register, variable and
// label of a nested scope gets a name that is unique in its function, so that nothing behind the parser knows scopes.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "emu/ptx/lexer.h"
#include "emu/ptx/module.h"

namespace emu::ptx {

class Parser {
 public:
  Parser(std::string_view text, Module& module) : text_(text), tokens_(tokenize(text)), module_(module) {}
  void run();  // throws SyntaxError

 private:
  struct Name {
    std::string unique;
    bool is_register = false;
  };
  using Scope = std::unordered_map<std::string, Name>;
  struct Linkage {
    bool is_extern = false, is_visible = false;
  };

  // tokens
  const Token& peek(std::size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool accept(std::string_view mark);
  bool accept_dotted(std::string_view word);
  void expect(std::string_view mark);
  std::string expect_name(const char* what);
  uint64_t expect_count(const char* what);
  [[noreturn]] void fail_here(const std::string& expected) const;
  void skip_line();
  void skip_pragma();

  // parser.cpp: the module
  void header();
  void module_item();
  void alias();
  void skip_section();
  Linkage linkage();

  // declarations.cpp
  void function(bool is_entry);
  void parameters(std::vector<Variable>& into, const char* close);
  Variable parameter();
  void directives(Function& f);
  void declare_register();
  void declare_variables(Space space, Linkage linkage, std::vector<Variable>& into);
  void declarator(Variable v, std::vector<Variable>& into);
  void initializer(Variable& v);
  void initial_element(Variable& v, uint64_t at);
  void store_initial(Variable& v, uint64_t at, uint64_t bits, uint64_t bytes);

  // statements.cpp
  void body(Function& f);
  void open_scope();
  void declare(const std::string& name, bool is_register, std::string* unique);
  const Name* find(const std::string& name) const;
  void body_item();
  void label_item(const std::string& label);
  std::vector<std::string> target_list();
  void statement();
  std::string folded(std::size_t begin, std::size_t end) const;
  Operand operand(bool is_call);
  Operand name_operand();
  Operand address();
  Operand constant();
  Operand list(Operand::Kind kind, const char* close, bool is_call);
  int64_t offset();
  // constants.cpp: integer expressions with the operators of C, 64 bits wide
  int64_t expression(int least_precedence = 0);
  int64_t unary();

  std::string_view text_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  Module& module_;
  // the function being read
  Function* function_ = nullptr;
  std::vector<Scope> scopes_;
  std::unordered_map<std::string, int> uses_;  // how often a name was declared in the function
};

Space space_of(std::string_view word);  // "shared" -> kShared; kNone when it is none

}  // namespace emu::ptx
