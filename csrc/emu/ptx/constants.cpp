// Integer constant expressions.
#include "emu/ptx/parser.h"

namespace emu::ptx {
namespace {

struct Operator {
  const char* mark;
  int precedence;
};
constexpr Operator kOperators[] = {{"|", 1}, {"^", 2}, {"&", 3}, {"<<", 4}, {">>", 4},
                                   {"+", 5}, {"-", 5}, {"*", 6}, {"/", 6},  {"%", 6}};

}  // namespace

int64_t Parser::unary() {
  if (accept("-")) return static_cast<int64_t>(0 - static_cast<uint64_t>(unary()));
  if (accept("+")) return unary();
  if (accept("~")) return ~unary();
  if (accept("!")) return unary() == 0;
  if (accept("(")) {
    const int64_t value = expression();
    expect(")");
    return value;
  }
  if (peek().kind == Token::Kind::kName && peek().text == "WARP_SZ") {
    next();
    return 32;
  }
  return static_cast<int64_t>(expect_count("a constant"));
}

int64_t Parser::expression(int least_precedence) {
  uint64_t left = static_cast<uint64_t>(unary());
  for (;;) {
    const Operator* found = nullptr;
    for (const Operator& o : kOperators) {
      if (o.precedence > least_precedence && peek().is(o.mark)) found = &o;
    }
    if (found == nullptr) return static_cast<int64_t>(left);
    const Token mark = next();
    const uint64_t right = static_cast<uint64_t>(expression(found->precedence));
    switch (mark.text[0]) {
      case '|': left |= right; break;
      case '^': left ^= right; break;
      case '&': left &= right; break;
      case '<': left = right < 64 ? left << right : 0; break;
      case '>': left = right < 64 ? static_cast<uint64_t>(static_cast<int64_t>(left) >> right) : 0; break;
      case '+': left += right; break;
      case '-': left -= right; break;
      case '*': left *= right; break;
      default:
        if (right == 0) throw SyntaxError(mark.line, "division by zero in a constant");
        // unsigned: nothing but sizes is written with them, and the least integer over -1 has no quotient
        left = mark.text[0] == '/' ? left / right : left % right;
    }
  }
}

}  // namespace emu::ptx
