// The instructions and qualifiers that sm_80 lacks; of all others that the emulator knows it has every one. PTX
// ISA 9.0, the "Target ISA Notes" of each instruction, as ptxas 13.0 reads them (tests/emu/test_targets.py asks it).
#include "emu/exec/targets.h"

#include <cstdlib>
#include <string_view>
#include <vector>

namespace emu {
namespace {

// `opcodes` and each word of `qualifiers` are alternatives. Every word stands for a modifier of its own, or for a
// special register that the statement reads. What is there from sm_`least` on is there in every later target; what is
// `specific` only in targets "f" and "a" of these families, or where `exact` in those of "a".
struct Row {
  const char* opcodes;     // "": any
  const char* qualifiers;  // "": every form
  int least = 0;
  const char* specific = "";
  bool exact = false;
  int operands = 0;  // 0: any number
};

constexpr Row kRows[] = {
    {"elect|stmatrix|griddepcontrol", "", 90},
    {"", "cluster", 90},  // as a scope
    {"isspacep", "shared::cluster", 90},
    {"fence", "proxy async", 90},
    {"mov", "%clusterid|%nclusterid|%cluster_ctaid|%cluster_nctaid|%cluster_ctarank|%cluster_nctarank", 90},
    {"mov", "%is_explicit_cluster|%aggr_smem_size", 90},
    {"atom|red", "v2|v4|v8", 90},
    {"atom|red", "b128", 90},
    {"atom|red", "bf16|bf16x2", 90},
    {"ld|st", "v8", 100},
    {"ld|st", "v4 b64|u64|s64|f64", 100},
    {"ldmatrix", "m16n16|m8n16", 0, "100 110 120"},
    {"stmatrix", "m16n8", 0, "100 110 120"},
    {"redux", "f32", 0, "100"},
    {"min|max", "xorsign", 86},
    {"min|max", "relu s32", 90},
    {"min|max", "f32", 100, "", false, 4},
    {"add|min|max", "s16x2|u16x2", 90},
    {"add|sub|mul|ex2|tanh|setp|set", "bf16|bf16x2", 90},
    {"add|sub|mul|fma", "f32x2", 100},
    {"add|sub|fma", "f32 f16|bf16", 100},
    // .bf16 and .f32 alone convert to each other on sm_80
    {"cvt", "bf16 bf16|f16|f64|s8|u8|s16|u16|s32|u32|s64|u64", 90},
    {"cvt", "tf32 rn|rz", 90},
    {"cvt", "tf32 rn|rz satfinite", 100},
    {"cvt", "e4m3x2|e5m2x2", 89},
    {"cvt", "e2m1x2|e2m3x2|e3m2x2|ue8m0x2", 0, "100 110 120"},
    {"cvt", "rs", 0, "100", true},
    {"mma", "f64 m16n8k4|m16n8k8|m16n8k16", 90},
    {"mma", "block_scale", 0, "120"},
    {"mma", "e2m1|e2m3|e3m2", 0, "120"},
    {"mma", "kind::f8f6f4", 0, "100 110 120"},
    {"mma", "e4m3|e5m2", 89},
};

// Takes the part before the next `at` off the text.
std::string_view take_part(std::string_view* text, char at) {
  const size_t end = text->find(at);
  const std::string_view part = text->substr(0, end);
  *text = end == std::string_view::npos ? std::string_view() : text->substr(end + 1);
  return part;
}

bool is_one_of(std::string_view word, std::string_view alternatives) {
  while (!alternatives.empty()) {
    if (take_part(&alternatives, '|') == word) return true;
  }
  return false;
}

// %clusterid of %clusterid.x
std::string_view register_of(const ptx::Operand& o) {
  if (o.kind != ptx::Operand::Kind::kSpecial) return {};
  const std::string_view name = o.name;
  return name.substr(0, name.find('.'));
}

bool is_of(const ptx::Statement& s, const Row& row) {
  if (row.opcodes[0] != '\0' && !is_one_of(s.opcode, row.opcodes)) return false;
  if (row.operands != 0 && static_cast<int>(s.operands.size()) != row.operands) return false;
  std::vector<bool> used(s.modifiers.size(), false);
  for (std::string_view words = row.qualifiers; !words.empty();) {
    const std::string_view word = take_part(&words, ' ');
    bool found = false;
    for (size_t i = 0; i < s.modifiers.size() && !found; ++i) {
      if (used[i] || !is_one_of(s.modifiers[i], word)) continue;
      used[i] = found = true;
    }
    for (const ptx::Operand& o : s.operands) found = found || is_one_of(register_of(o), word);
    if (!found) return false;
  }
  return true;
}

bool has(const std::string& target, const Row& row) {
  const size_t digits = target.find_first_of("0123456789");
  const int number = digits == std::string::npos ? 0 : std::atoi(target.c_str() + digits);
  if (row.specific[0] == '\0') return number >= row.least;
  const char suffix = target.back();
  if (suffix != 'a' && (suffix != 'f' || row.exact)) return false;
  for (std::string_view families = row.specific; !families.empty();) {
    if (std::to_string(number / 10 * 10) == take_part(&families, ' ')) return true;
  }
  return false;
}

// "sm_100a, sm_100f, sm_120a or sm_120f"
std::string needed(const Row& row) {
  if (row.specific[0] == '\0') return "sm_" + std::to_string(row.least) + " or later";
  std::vector<std::string> names;
  for (std::string_view families = row.specific; !families.empty();) {
    const std::string name = "sm_" + std::string(take_part(&families, ' '));
    names.push_back(name + "a");
    if (!row.exact) names.push_back(name + "f");
  }
  std::string text = names[0];
  for (size_t i = 1; i < names.size(); ++i) text += (i + 1 < names.size() ? ", " : " or ") + names[i];
  return text;
}

}  // namespace

std::string missing_target(const ptx::Statement& statement, const std::string& target) {
  for (const Row& row : kRows) {
    if (!is_of(statement, row) || has(target, row)) continue;
    const std::string words = row.qualifiers;
    return (words.empty() ? std::string("the instruction") : "its form (" + words + ")") + " needs .target " +
           needed(row) + ", the module has " + target;
  }
  return {};
}

}  // namespace emu
