// Text of JSON, written piece by piece.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace emu {

inline std::string json_string(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

inline std::string json_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

// "[a, b, c]" or "{k: v, ...}" of items that are JSON already.
class JsonItems {
 public:
  explicit JsonItems(const char* brackets) : open_(brackets[0]), close_(brackets[1]) {}
  void item(const std::string& json) { body_ += (body_.empty() ? "" : ", ") + json; }
  void member(const std::string& name, const std::string& json) { item(json_string(name) + ": " + json); }
  void member(const std::string& name, uint64_t value) { member(name, std::to_string(value)); }
  std::string text() const { return open_ + body_ + close_; }

 private:
  char open_, close_;
  std::string body_;
};

}  // namespace emu
