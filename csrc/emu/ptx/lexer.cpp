#include "emu/ptx/lexer.h"

#include <charconv>
#include <cstring>

namespace emu::ptx {
namespace {

// Not the functions of <cctype>: those follow the locale of the process.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' || c == '$'; }
int digit_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    tokens_.reserve(text_.size() / 4 + 16);
    for (skip_blank(); at_ < text_.size(); skip_blank()) next();
    begin_ = at_;
    push(Token::Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  char peek(std::size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  Token& push(Token::Kind kind) {
    Token t;
    t.kind = kind;
    t.line = line_;
    t.begin = begin_;
    t.end = at_;
    t.text = text_.substr(begin_, at_ - begin_);
    tokens_.push_back(t);
    return tokens_.back();
  }

  [[noreturn]] void fail(const std::string& what) const { throw SyntaxError(line_, what); }

  void skip_blank() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '\n') {
        ++line_, ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '\0') {
        ++at_;
      } else if (c == '/' && peek(1) == '/') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == '/' && peek(1) == '*') {
        const int first_line = line_;
        const std::size_t end = text_.find("*/", at_ + 2);
        if (end == std::string_view::npos) throw SyntaxError(first_line, "comment without its '*/'");
        for (; at_ < end + 2; ++at_) line_ += text_[at_] == '\n';
      } else {
        return;
      }
    }
  }

  void next() {
    begin_ = at_;
    const char c = text_[at_];
    if (is_digit(c) || (c == '.' && is_digit(peek(1)) && number_may_follow())) return number();
    if (is_word(c) || (c == '%' && is_word(peek(1)) && !is_digit(peek(1)))) return name();
    if (c == '.') return dotted();
    if (c == '"') return string();
    if (std::strchr(",;:()[]{}<>|@!+-*/%&^~=", c) == nullptr) fail("unexpected character '" + std::string(1, c) + "'");
    ++at_;
    if ((c == '<' || c == '>') && peek() == c) ++at_;
    push(Token::Kind::kMark);
  }

  // ".5" is a number where an operand begins, and a modifier (.16x256b) behind a word.
  bool number_may_follow() const {
    return !tokens_.empty() && (tokens_.back().is(",") || tokens_.back().is("=") || tokens_.back().is("{") ||
                                tokens_.back().is("-") || tokens_.back().is("+"));
  }

  void name() {
    ++at_;
    while (is_word(peek())) ++at_;
    push(Token::Kind::kName);
  }

  void dotted() {
    ++at_;
    while (is_word(peek()) || (peek() == ':' && peek(1) == ':' && is_word(peek(2)))) at_ += peek() == ':' ? 2 : 1;
    if (at_ == begin_ + 1) fail("a '.' without a word behind it");
    push(Token::Kind::kDotted).text.remove_prefix(1);
  }

  void string() {
    ++at_;
    while (peek() != '"') {
      if (at_ >= text_.size() || peek() == '\n') fail("string without its closing '\"'");
      at_ += peek() == '\\' ? 2 : 1;
    }
    ++at_;
    Token& t = push(Token::Kind::kString);
    t.text = t.text.substr(1, t.text.size() - 2);
  }

  void number() {
    const char second = static_cast<char>(peek(1) | 0x20);
    if (peek() == '0' && (second == 'f' || second == 'd')) return float_pattern(second == 'f' ? 32 : 64);
    if (peek() == '0' && second == 'x') return integer(16, 2);
    if (peek() == '0' && second == 'b') return integer(2, 2);
    std::size_t end = at_;
    while (end < text_.size() && is_digit(text_[end])) ++end;
    const char after = end < text_.size() ? text_[end] : '\0';
    const bool fraction =
        after == '.' && !(end + 1 < text_.size() && is_word(text_[end + 1]) && !is_digit(text_[end + 1]));
    const bool exponent = (after == 'e' || after == 'E') && end + 1 < text_.size() &&
                          (is_digit(text_[end + 1]) || text_[end + 1] == '-' || text_[end + 1] == '+');
    if (fraction || exponent) return decimal();
    integer(peek() == '0' && is_digit(peek(1)) ? 8 : 10, 0);
  }

  void float_pattern(int bits) {
    at_ += 2;
    uint64_t value = 0;
    int digits = 0;
    for (; digit_value(peek()) < 16; ++at_, ++digits) value = value << 4 | static_cast<unsigned>(digit_value(peek()));
    if (digits != bits / 4 || is_word(peek())) {
      fail("'" + word() + "' must have " + std::to_string(bits / 4) + " hexadecimal digits behind 0" +
           (bits == 32 ? "f" : "d"));
    }
    Token& t = push(Token::Kind::kFloat);
    t.float_bits = static_cast<uint8_t>(bits);
    t.value = value;
  }

  void integer(int base, std::size_t prefix) {
    at_ += prefix;
    uint64_t value = 0;
    int digits = 0;
    for (; digit_value(peek()) < base; ++at_, ++digits) {
      const uint64_t digit = static_cast<unsigned>(digit_value(peek()));
      if (value > (~uint64_t{0} - digit) / static_cast<unsigned>(base))
        fail("integer '" + word() + "' exceeds 64 bits");
      value = value * static_cast<unsigned>(base) + digit;
    }
    if (peek() == 'U' || peek() == 'u') ++at_;
    if (digits == 0 || is_word(peek())) fail("'" + word() + "' is no number");
    push(Token::Kind::kInteger).value = value;
  }

  void decimal() {
    std::string digits;
    auto take = [&] { digits += text_[at_++]; };
    while (is_digit(peek())) take();
    if (peek() == '.') take();
    while (is_digit(peek())) take();
    if (peek() == 'e' || peek() == 'E') {
      take();
      if (peek() == '-' || peek() == '+') take();
      while (is_digit(peek())) take();
    }
    if (is_word(peek())) fail("'" + word() + "' is no number");
    double value = 0.0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);  // strtod would follow the locale
    Token& t = push(Token::Kind::kFloat);
    t.float_bits = 64;
    std::memcpy(&t.value, &value, 8);
  }

  std::string word() const {
    std::size_t end = at_;
    while (end < text_.size() && is_word(text_[end])) ++end;
    return std::string(text_.substr(begin_, end - begin_));
  }

  std::string_view text_;
  std::size_t at_ = 0, begin_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

}  // namespace emu::ptx
