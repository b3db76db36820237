// What the tests of the parser run:
//   parse FILE   the number of statements, or the error; each statement is written back from its parts and must have
//   the
//                tokens of its text
//   names FILE   registers, variables, labels and operands, as the parser named them
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

#include "emu/ptx/lexer.h"
#include "emu/ptx/module.h"

namespace {

using emu::ptx::Module;
using emu::ptx::Operand;
using emu::ptx::Statement;
using emu::ptx::Token;
using Kind = Operand::Kind;

std::string plain(const std::string& name) { return name.substr(0, name.find('#')); }

std::string written(const Operand& o);
std::string joined(const std::vector<Operand>& parts) {
  std::string s;
  for (std::size_t i = 0; i < parts.size(); ++i) s += (i ? ", " : "") + written(parts[i]);
  return s;
}
std::string written(const Operand& o) {
  const std::string offset = o.offset == 0 ? "" : "+" + std::to_string(o.offset);
  switch (o.kind) {
    case Kind::kRegister: return (o.negated ? "!" : "") + plain(o.name);
    case Kind::kSpecial: return o.name;
    case Kind::kInteger: return std::to_string(static_cast<int64_t>(o.bits));
    case Kind::kFloat: {
      char text[24];
      std::snprintf(text, sizeof text, o.float_bits == 32 ? "0f%08llX" : "0d%016llX",
                    static_cast<unsigned long long>(o.bits));
      return text;
    }
    case Kind::kSymbol: return plain(o.name) + offset;
    case Kind::kAddress: {
      const std::vector<Operand> rest(o.parts.begin() + 1, o.parts.end());
      return "[" + written(o.parts[0]) + offset + (rest.empty() ? "" : ", " + joined(rest)) + "]";
    }
    case Kind::kVector: return "{" + joined(o.parts) + "}";
    case Kind::kPair: return written(o.parts[0]) + "|" + written(o.parts[1]);
    case Kind::kSink: return "_";
    case Kind::kList: return "(" + joined(o.parts) + ")";
  }
  return "?";
}
std::string written(const Statement& st) {
  std::string s = st.guard.empty() ? "" : std::string("@") + (st.guard_negated ? "!" : "") + plain(st.guard) + " ";
  s += st.opcode;
  for (const std::string& m : st.modifiers) s += "." + m;
  return s + " " + joined(st.operands) + ";";
}

// Tokens with numbers by value, signs in them, and without the "+0" of an address.
std::vector<std::string> tokens(const std::string& text) {
  std::vector<std::string> out;
  const std::vector<Token> list = emu::ptx::tokenize(text);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Token& t = list[i];
    if (t.kind == Token::Kind::kEnd) break;
    if (t.kind == Token::Kind::kInteger || t.kind == Token::Kind::kFloat) {
      int64_t value = static_cast<int64_t>(t.value);
      if (!out.empty() && out.back() == "-") value = -value, out.back() = "+";
      const bool sign_behind_bracket = out.size() > 1 && out.back() == "+";
      if (sign_behind_bracket && value == 0) {
        out.pop_back();
        continue;
      }
      if (sign_behind_bracket && (out[out.size() - 2] == "+" || out[out.size() - 2] == ",")) out.pop_back();
      out.push_back(std::to_string(value) + (t.kind == Token::Kind::kFloat ? "f" : ""));
    } else {
      out.emplace_back((t.kind == Token::Kind::kDotted ? "." : "") + std::string(t.text));
    }
  }
  return out;
}

int parse_file(const char* path, Module& module) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  std::string error;
  if (emu::ptx::parse(text.str(), &module, &error)) return 0;
  std::cout << error << "\n";
  return 1;
}

int check_parse(const char* path) {
  Module module;
  if (parse_file(path, module) != 0) return 1;
  std::size_t statements = 0;
  for (const auto& f : module.functions) {
    for (const Statement& st : f.body) {
      ++statements;
      if (tokens(written(st)) == tokens(st.text)) continue;
      std::cout << "line " << st.line << ": '" << st.text << "' became '" << written(st) << "'\n";
      return 1;
    }
  }
  std::cout << statements << "\n";
  return 0;
}

int print_names(const char* path) {
  Module module;
  if (parse_file(path, module) != 0) return 1;
  for (const auto& f : module.functions) {
    std::cout << "function " << f.name << "\n";
    for (const auto& r : f.registers) std::cout << "register " << r.name << " " << emu::ptx::name_of(r.type) << "\n";
    for (const auto& v : f.variables) std::cout << "variable " << v.name << " " << v.bytes << " " << v.align << "\n";
    for (const auto& [label, at] : f.labels) std::cout << "label " << label << " " << at << "\n";
    for (const auto& st : f.body) {
      std::cout << "statement " << st.opcode;
      for (const Operand& o : st.operands) {
        for (const Operand& part : o.parts) {
          std::cout << " " << part.name;
          if (part.kind == Kind::kInteger) std::cout << static_cast<int64_t>(part.bits);
        }
        if (o.parts.empty()) std::cout << " " << o.name;
        if (o.kind == Kind::kInteger) std::cout << static_cast<int64_t>(o.bits);
        if (o.kind == Kind::kFloat) std::cout << std::hex << o.bits << std::dec;
        if (o.offset != 0) std::cout << "+" << o.offset;
      }
      std::cout << "\n";
    }
  }
  for (const auto& v : module.variables) {
    std::cout << "global " << v.name << " " << v.bytes << " " << v.align << " :";
    for (const uint8_t byte : v.initial) std::cout << " " << int(byte);
    for (const auto& r : v.relocations) {
      std::cout << " @" << r.at << "/" << r.width << "=" << r.symbol << "+" << r.addend << (r.generic ? "g" : "")
                << ">>" << r.shift;
    }
    std::cout << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  if (std::strcmp(argv[1], "parse") == 0) return check_parse(argv[2]);
  if (std::strcmp(argv[1], "names") == 0) return print_names(argv[2]);
  return 2;
}
