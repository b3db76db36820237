#include "emu/rt/record.h"

#include <algorithm>
#include <cstdio>
#include <mutex>

#include "emu/config.h"
#include "emu/rt/device.h"
#include "emu/rt/json.h"
#include "emu/rt/registry.h"

namespace emu {
namespace {

constexpr const char* kClassNames[] = {
    "other",      "integer",     "float32", "float16",    "float64",     "convert",      "logic",       "special",
    "move",       "shuffle",     "control", "barrier",    "load_global", "store_global", "load_shared", "store_shared",
    "load_other", "store_other", "atomic",  "async_copy", "matrix_load", "tensor",
};
static_assert(sizeof(kClassNames) / sizeof(kClassNames[0]) == static_cast<size_t>(Class::kCount));

// "m16n8k32.s8.s8.s32" of mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32: shape, A, B, D, then kind and bit operation.
std::string tensor_name(const ptx::Statement& s) {
  std::string shape, kind;
  std::vector<std::string> types;
  for (const std::string& m : s.modifiers) {
    if (shape.empty() && m.size() > 1 && m[0] == 'm' && m.find('n') != std::string::npos &&
        m.find('k') != std::string::npos) {
      shape = m;
    } else if (m.rfind("kind::", 0) == 0) {
      kind += "." + m.substr(6);
    } else if (m == "and" || m == "xor" || m == "sp") {
      kind += "." + m;
    } else if (types.size() < 4 && ptx::type_of(m) != ptx::Type::kNone) {
      types.push_back(m);
    }
  }
  if (types.size() < 3) return shape;
  return shape + "." + types[1] + "." + types[2] + "." + types[0] + kind;
}

std::string json(const abi::Dim3& d) {
  return "[" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + "]";
}

std::string json(const uint32_t (&v)[3]) { return json(abi::Dim3{v[0], v[1], v[2]}); }

void site_members(JsonItems* o, const Site& s) {
  o->member("kernel", json_string(s.kernel));
  o->member("block", json(s.block));
  o->member("thread", json(s.thread));
  o->member("line", std::to_string(s.line));
  o->member("text", json_string(s.text));
}

template <class Count>
void count_members(JsonItems* o, const Count& c) {
  o->member("warps", c.warps);
  o->member("threads", c.threads);
  o->member("sectors", c.sectors);
  o->member("sectors_least", c.sectors_least);
  o->member("wavefronts", c.wavefronts);
  o->member("wavefronts_least", c.wavefronts_least);
}

}  // namespace

const char* name_of(Class c) { return kClassNames[static_cast<int>(c)]; }

Records& records() {
  static Records* r = new Records;
  return *r;
}

void add_wait() {
  const std::lock_guard<std::recursive_mutex> lock(registry().mutex);
  ++records().waits;
}

void add_report(const Report& report) {
  records().reports.push_back(report);
  std::fprintf(stderr, "%s\n", report.sentence().c_str());
}

void add_launch(const Kernel& kernel, const LaunchShape& shape, const LaunchResult& result) {
  LaunchRecord r;
  const Code& code = kernel.code;
  r.kernel = kernel.name;
  r.arch = config().arch;
  r.grid = shape.grid;
  r.block = shape.block;
  r.static_shared = code.shared_bytes;
  r.dynamic_shared = shape.dynamic_shared;
  r.registers = code.registers;
  r.resident_blocks =
      resident_blocks(device(), code, shape.block.x * shape.block.y * shape.block.z, shape.dynamic_shared);
  r.seconds = result.seconds;
  r.thread_instructions = result.thread_instructions;
  for (size_t i = 0; i < result.counts.size() && i < code.instrs.size(); ++i) {
    const InstrCount& c = result.counts[i];
    if (c.warps == 0) continue;
    const Instr& instr = code.instrs[i];
    LaunchRecord::OfClass& of = r.classes[static_cast<int>(instr.cls)];
    of.warps += c.warps;
    of.threads += c.threads;
    of.sectors += c.sectors;
    of.sectors_least += c.sectors_least;
    of.wavefronts += c.wavefronts;
    of.wavefronts_least += c.wavefronts_least;
    const ptx::Statement& s = *code.statements[instr.statement];
    if (instr.cls == Class::kTensor) r.tensor[tensor_name(s)] += c.warps;
    if (records().list_instructions) r.instructions.push_back({s.line, s.text, c});
  }
  records().launches.push_back(std::move(r));
}

std::string reports_json() {
  JsonItems list("[]");
  for (const Report& r : records().reports) {
    JsonItems o("{}");
    o.member("finding", json_string(name_of(r.finding)));
    site_members(&o, r.site);
    o.member("message", json_string(r.message));
    o.member("sentence", json_string(r.sentence()));
    o.member("count", r.count);
    if (r.has_other) {
      JsonItems other("{}");
      site_members(&other, r.other);
      o.member("other", other.text());
    } else {
      o.member("other", "null");
    }
    list.item(o.text());
  }
  return list.text();
}

std::string counts_json() {
  JsonItems list("[]");
  for (const LaunchRecord& r : records().launches) {
    JsonItems o("{}");
    o.member("kernel", json_string(r.kernel));
    o.member("grid", json(r.grid));
    o.member("block", json(r.block));
    o.member("shared", r.static_shared + r.dynamic_shared);
    o.member("arch", json_string(r.arch));
    o.member("registers", r.registers);
    o.member("resident_blocks", static_cast<uint64_t>(r.resident_blocks));
    o.member("seconds", json_number(r.seconds));
    o.member("thread_instructions", r.thread_instructions);
    JsonItems classes("{}");
    for (int c = 0; c < static_cast<int>(Class::kCount); ++c) {
      if (r.classes[c].warps == 0) continue;
      JsonItems of("{}");
      count_members(&of, r.classes[c]);
      classes.member(kClassNames[c], of.text());
    }
    o.member("classes", classes.text());
    JsonItems tensor("{}");
    for (const auto& [name, warps] : r.tensor) tensor.member(name, warps);
    o.member("tensor", tensor.text());
    JsonItems rows("[]");
    for (const LaunchRecord::Row& row : r.instructions) {
      JsonItems i("{}");
      i.member("line", std::to_string(row.line));
      i.member("text", json_string(row.text));
      count_members(&i, row.count);
      rows.item(i.text());
    }
    o.member("instructions", rows.text());
    list.item(o.text());
  }
  return list.text();
}

}  // namespace emu
