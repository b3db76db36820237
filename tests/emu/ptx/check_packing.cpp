// Random programs, packed, then walked by a few lanes that branch and are guarded at random, each at its own pace.
// Every lane keeps what it last wrote to each register; what it reads in the packed register file must be the same
// bytes.
//   check_packing SEED   prints the units before and after
#include <cstring>
#include <iostream>
#include <memory>
#include <random>

#include "emu/exec/linker.h"

namespace {

using emu::Unit;

struct Program {
  emu::Code code;
  emu::RegisterUse use;
  std::vector<std::vector<Unit>> operands;  // before packing
  std::vector<Unit> guards;
  std::vector<const emu::VirtualRegister*> of_unit;  // before packing
};

void nothing(emu::Warp&, const emu::Instr&, emu::Mask) {}

void make_program(std::mt19937& random, Program& p) {
  auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  const uint32_t count = 8 + pick(60), length = 10 + pick(80);
  for (uint32_t r = 0; r < count; ++r) {
    emu::VirtualRegister v;
    v.unit = p.code.units;
    v.is_predicate = r % 4 == 3;
    v.units = v.is_predicate ? 1 : 1u << pick(3);
    v.function = r % 9 == 8 ? -1 : 0;
    p.code.units += v.units;
    p.use.registers.push_back(v);
  }
  for (const auto& v : p.use.registers) p.of_unit.resize(v.unit + v.units, &v);
  auto any = [&] { return p.use.registers[pick(count)].unit; };
  for (uint32_t i = 0; i < length; ++i) {
    std::vector<Unit> list;
    emu::Instr instr;
    instr.run = nothing;
    instr.nd = static_cast<uint8_t>(pick(3));
    instr.ns = static_cast<uint8_t>(pick(4));
    for (int k = 0; k < instr.nd + instr.ns; ++k) list.push_back(any());
    if (pick(4) == 0) instr.guard = p.use.registers[pick(count / 4) * 4 + 3].unit;
    p.guards.push_back(instr.guard);
    p.operands.push_back(list);
    p.code.operands.push_back(std::move(list));
    instr.d = p.code.operands.back().data();
    instr.s = instr.d + instr.nd;
    emu::Successors next;
    if (pick(5) == 0) next.branch = pick(length);
    if (pick(12) == 0) {
      auto table = std::make_shared<std::vector<uint32_t>>();
      for (int k = 0; k < 3; ++k) table->push_back(pick(length));
      next.table = table.get();
      p.code.plans.push_back(std::move(table));
    }
    const bool jumps = next.branch != emu::Successors::kNone || next.table != nullptr || pick(20) == 0;
    next.falls_through = instr.guard != emu::kNoUnit || !jumps;
    p.code.instrs.push_back(instr);
    p.use.successors.push_back(next);
  }
  p.use.functions.push_back({0, length});
}

// The place of a lane in the register file, as exec/program.h lays it out.
struct Slot {
  std::size_t byte, bytes;
  int bit;  // of a predicate, else -1
};
Slot slot(const emu::VirtualRegister& v, Unit unit, int lane) {
  const std::size_t base = std::size_t{unit} * 128;
  if (v.is_predicate) return {base + static_cast<std::size_t>(lane) / 8, 1, lane % 8};
  const std::size_t bytes = 4 * v.units;
  return {base + static_cast<std::size_t>(lane) * bytes, bytes, -1};
}

struct Lane {
  int index;
  uint32_t at = 0;
  std::vector<std::vector<uint8_t>> value;  // of each register by its unit before packing; empty: never written
};

class Walk {
 public:
  Walk(const Program& p, std::mt19937& random) : p_(p), random_(random), file_(p.code.units * 128) {
    for (const int index : {0, 1, 5, 31})
      lanes_.push_back({index, 0, std::vector<std::vector<uint8_t>>(p.of_unit.size())});
  }

  bool run() {
    for (int step = 0; step < 1000; ++step) {
      Lane& lane = lanes_[random_() % lanes_.size()];
      if (lane.at < p_.code.instrs.size() && !execute(lane)) return false;
    }
    return true;
  }

 private:
  bool reads_its_own(const Lane& lane, Unit before, Unit after) const {
    const std::vector<uint8_t>& value = lane.value[before];
    const Slot s = slot(*p_.of_unit[before], after, lane.index);
    if (value.empty()) return true;
    if (s.bit >= 0) return (file_[s.byte] >> s.bit & 1) == value[0];
    return std::memcmp(&file_[s.byte], value.data(), s.bytes) == 0;
  }

  void write(Lane& lane, Unit before, Unit after) {
    const Slot s = slot(*p_.of_unit[before], after, lane.index);
    std::vector<uint8_t>& value = lane.value[before];
    value.resize(s.bytes);
    for (uint8_t& byte : value) byte = static_cast<uint8_t>(s.bit >= 0 ? random_() & 1 : random_());
    if (s.bit < 0) {
      std::memcpy(&file_[s.byte], value.data(), s.bytes);
    } else {
      file_[s.byte] = static_cast<uint8_t>((file_[s.byte] & ~(1 << s.bit)) | value[0] << s.bit);
    }
  }

  bool execute(Lane& lane) {
    const emu::Instr& i = p_.code.instrs[lane.at];
    const std::vector<Unit>& before = p_.operands[lane.at];
    for (int k = 0; k < i.ns; ++k) {
      const Unit source = before[static_cast<std::size_t>(i.nd + k)];
      if (!reads_its_own(lane, source, i.s[k])) return say(lane, "reads another register's value");
      for (int d = 0; d < i.nd; ++d) {
        const Unit destination = before[static_cast<std::size_t>(d)];
        if (source != destination && i.s[k] < i.d[d] + p_.of_unit[destination]->units &&
            i.d[d] < i.s[k] + p_.of_unit[source]->units) {
          return say(lane, "has a destination in the units of a source");
        }
      }
    }
    if (i.guard != emu::kNoUnit && !reads_its_own(lane, p_.guards[lane.at], i.guard)) {
      return say(lane, "has another register's value as its guard");
    }
    if (i.guard == emu::kNoUnit || random_() % 2 == 0) {
      for (int d = 0; d < i.nd; ++d) write(lane, before[static_cast<std::size_t>(d)], i.d[d]);
    }
    const emu::Successors& next = p_.use.successors[lane.at];
    std::vector<uint32_t> targets;
    if (next.falls_through) targets.push_back(lane.at + 1);
    if (next.branch != emu::Successors::kNone) targets.push_back(next.branch);
    if (next.table != nullptr) targets.insert(targets.end(), next.table->begin(), next.table->end());
    lane.at = targets.empty() ? static_cast<uint32_t>(p_.code.instrs.size()) : targets[random_() % targets.size()];
    return true;
  }

  static bool say(const Lane& lane, const char* what) {
    std::cout << "instruction " << lane.at << " " << what << " in lane " << lane.index << "\n";
    return false;
  }

  const Program& p_;
  std::mt19937& random_;
  std::vector<uint8_t> file_;
  std::vector<Lane> lanes_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::mt19937 random(static_cast<unsigned>(std::stoul(argv[1])));
  uint64_t before = 0, after = 0;
  for (int round = 0; round < 200; ++round) {
    Program p;
    make_program(random, p);
    before += p.code.units;
    emu::pack_registers(p.use, p.code);
    after += p.code.units;
    for (int walk = 0; walk < 8; ++walk) {
      if (!Walk(p, random).run()) return 1;
    }
  }
  std::cout << before << " " << after << "\n";
  return 0;
}
