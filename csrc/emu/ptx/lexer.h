// PTX text as tokens. Comments and white space are gone; every token knows its line and its place in the text.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace emu::ptx {

struct Token {
  enum class Kind : uint8_t {
    kName,     // identifier: foo, $L__BB0_2, %r1, _
    kDotted,   // .word, .L2::128B, .16x256b; text is without the dot
    kInteger,  // value
    kFloat,    // value is the IEEE pattern of `float_bits`
    kString,   // text is between the quotes
    kMark,     // one of , ; : ( ) [ ] { } < > | @ ! + - * / % & ^ ~ =, or << and >>
    kEnd
  };
  Kind kind = Kind::kEnd;
  uint8_t float_bits = 0;
  int line = 0;
  std::string_view text;  // into the PTX text
  uint64_t value = 0;
  std::size_t begin = 0, end = 0;  // in the PTX text

  bool is(std::string_view mark) const { return kind == Kind::kMark && text == mark; }
  bool is_dotted(std::string_view word) const { return kind == Kind::kDotted && text == word; }
};

struct SyntaxError : std::runtime_error {
  SyntaxError(int line, const std::string& what) : std::runtime_error("line " + std::to_string(line) + ": " + what) {}
};

// Ends with a kEnd token. Throws SyntaxError at what is no token.
std::vector<Token> tokenize(std::string_view text);

}  // namespace emu::ptx
