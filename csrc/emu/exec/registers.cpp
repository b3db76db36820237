// Liveness and packing of register units.
//
// Blocks are runs of instructions between branches and their targets. Only registers that some block reads before it
// writes them take part in the iteration over blocks; all others live inside one block. Each register then has one
// interval of instructions, from its first to its last point of life in the order of the code, and intervals get units
// in the order of their beginnings. A write under a guard does not end a life, and a destination is alive together with
// the sources of its instruction, so handlers never find one in the other's unit.
#include <algorithm>
#include <limits>

#include "emu/exec/linker.h"

namespace emu {
namespace {

struct Interval {
  uint32_t begin = std::numeric_limits<uint32_t>::max(), end = 0;
  bool used() const { return begin <= end; }
  void cover(uint32_t at) {
    begin = std::min(begin, at);
    end = std::max(end, at);
  }
};

class Bits {
 public:
  explicit Bits(std::size_t count) : words_((count + 63) / 64) {}
  void set(std::size_t i) { words_[i / 64] |= uint64_t{1} << (i % 64); }
  bool has(std::size_t i) const { return words_[i / 64] >> (i % 64) & 1; }
  // this |= (live & ~killed); true when it grew
  bool merge(const Bits& live, const Bits* killed) {
    uint64_t grown = 0;
    for (std::size_t w = 0; w < words_.size(); ++w) {
      const uint64_t more = live.words_[w] & ~(killed == nullptr ? 0 : killed->words_[w]) & ~words_[w];
      words_[w] |= more;
      grown |= more;
    }
    return grown != 0;
  }
  template <class See>
  void for_each(See see) const {
    for (std::size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t left = words_[w]; left != 0; left &= left - 1) {
        see(w * 64 + static_cast<std::size_t>(__builtin_ctzll(left)));
      }
    }
  }

 private:
  std::vector<uint64_t> words_;
};

struct BasicBlock {
  uint32_t begin, end;
  std::vector<uint32_t> successors;  // blocks
};

class Packer {
 public:
  Packer(const RegisterUse& use, Code& code) : use_(use), code_(code), moved_(code.units, kNoUnit) {
    register_of_.resize(code.units);
    for (std::size_t r = 0; r < use.registers.size(); ++r)
      register_of_[use.registers[r].unit] = static_cast<uint32_t>(r);
    intervals_.resize(use.registers.size());
    global_.resize(use.registers.size(), kLocal);
  }

  void run() {
    for (const VirtualRegister& r : use_.registers) {
      if (r.function >= 0) continue;
      moved_[r.unit] = units_;
      units_ += r.units;
    }
    for (std::size_t f = 0; f < use_.functions.size(); ++f) {
      find_intervals(use_.functions[f].first, use_.functions[f].second);
      assign(static_cast<int>(f));
    }
    rewrite();
  }

 private:
  static constexpr uint32_t kLocal = ~uint32_t{0};

  template <class See>
  void visit(Unit u, See see) const {
    if (u != kNoUnit && use_.registers[register_of_[u]].function >= 0) see(register_of_[u]);
  }
  template <class See>
  void for_each_use(const Instr& i, See see) const {
    for (int k = 0; k < i.ns; ++k) visit(i.s[k], see);
    visit(i.guard, see);
    visit(i.member_mask, see);
  }
  template <class See>
  void for_each_definition(const Instr& i, See see) const {
    for (int k = 0; k < i.nd; ++k) visit(i.d[k], see);
  }

  std::vector<BasicBlock> blocks(uint32_t begin, uint32_t end) const {
    std::vector<char> leads(end - begin + 1, 0);
    leads[0] = 1;
    for (uint32_t i = begin; i < end; ++i) {
      const Successors& next = use_.successors[i];
      if (next.branch != Successors::kNone) leads[next.branch - begin] = leads[i + 1 - begin] = 1;
      if (!next.falls_through || next.table != nullptr) leads[i + 1 - begin] = 1;
      if (next.table != nullptr) {
        for (const uint32_t t : *next.table) leads[t - begin] = 1;
      }
    }
    std::vector<BasicBlock> list;
    std::vector<uint32_t> block_of(end - begin);
    for (uint32_t i = begin; i < end; ++i) {
      if (leads[i - begin]) list.push_back({i, i, {}});
      block_of[i - begin] = static_cast<uint32_t>(list.size() - 1);
      list.back().end = i + 1;
    }
    for (BasicBlock& b : list) {
      const Successors& next = use_.successors[b.end - 1];
      if (next.falls_through && b.end < end) b.successors.push_back(block_of[b.end - begin]);
      if (next.branch != Successors::kNone) b.successors.push_back(block_of[next.branch - begin]);
      if (next.table != nullptr) {
        for (const uint32_t t : *next.table) b.successors.push_back(block_of[t - begin]);
      }
    }
    return list;
  }

  void find_intervals(uint32_t begin, uint32_t end) {
    const std::vector<BasicBlock> list = blocks(begin, end);
    // registers that a block reads before it surely wrote them
    std::vector<uint32_t> written(use_.registers.size(), ~uint32_t{0});  // in which block last
    uint32_t globals = 0;
    for (uint32_t b = 0; b < list.size(); ++b) {
      for (uint32_t i = list[b].begin; i < list[b].end; ++i) {
        const Instr& instr = code_.instrs[i];
        for_each_use(instr, [&](uint32_t r) {
          intervals_[r].cover(i);
          if (written[r] != b && global_[r] == kLocal) global_[r] = globals++, named_.push_back(r);
        });
        for_each_definition(instr, [&](uint32_t r) {
          intervals_[r].cover(i);
          if (instr.guard == kNoUnit) written[r] = b;
        });
      }
    }
    std::vector<Bits> live_in(list.size(), Bits(globals)), live_out(list.size(), Bits(globals)),
        killed(list.size(), Bits(globals));
    for (uint32_t b = 0; b < list.size(); ++b) {
      for (uint32_t i = list[b].begin; i < list[b].end; ++i) {
        const Instr& instr = code_.instrs[i];
        for_each_use(instr, [&](uint32_t r) {
          if (global_[r] != kLocal && !killed[b].has(global_[r])) live_in[b].set(global_[r]);
        });
        if (instr.guard != kNoUnit) continue;
        for_each_definition(instr, [&](uint32_t r) {
          if (global_[r] != kLocal) killed[b].set(global_[r]);
        });
      }
    }
    for (bool grown = true; grown;) {
      grown = false;
      for (std::size_t b = list.size(); b-- > 0;) {
        for (const uint32_t next : list[b].successors) live_out[b].merge(live_in[next], nullptr);
        grown |= live_in[b].merge(live_out[b], &killed[b]);
      }
    }
    for (std::size_t b = 0; b < list.size(); ++b) {
      live_in[b].for_each([&](std::size_t g) { intervals_[named_[g]].cover(list[b].begin); });
      live_out[b].for_each([&](std::size_t g) { intervals_[named_[g]].cover(list[b].end - 1); });
    }
    for (const uint32_t r : named_) global_[r] = kLocal;
    named_.clear();
  }

  // Registers of different layouts never share units: the bytes of a lane lie elsewhere in each, and where threads have
  // diverged some lanes may hold a register of one while others hold one of another.
  void assign(int function) {
    assign(function, 1, true);
    for (const uint32_t units : {1u, 2u, 4u}) assign(function, units, false);
  }

  void assign(int function, uint32_t units, bool predicates) {
    std::vector<uint32_t> order;
    for (uint32_t r = 0; r < use_.registers.size(); ++r) {
      const VirtualRegister& v = use_.registers[r];
      if (v.function != function || v.units != units || v.is_predicate != predicates) continue;
      if (intervals_[r].used()) order.push_back(r);
    }
    auto by_begin = [this](uint32_t a, uint32_t b) { return intervals_[a].begin < intervals_[b].begin; };
    auto by_end = [this](uint32_t a, uint32_t b) { return intervals_[a].end < intervals_[b].end; };
    std::stable_sort(order.begin(), order.end(), by_begin);
    std::vector<uint32_t> ending = order;
    std::stable_sort(ending.begin(), ending.end(), by_end);
    std::vector<char> taken;  // slots of `units` units, from units_ on
    auto slot = [&](uint32_t r) { return (moved_[use_.registers[r].unit] - units_) / units; };
    std::size_t ended = 0;
    for (const uint32_t r : order) {
      for (; intervals_[ending[ended]].end < intervals_[r].begin; ++ended) taken[slot(ending[ended])] = 0;
      const auto free = std::find(taken.begin(), taken.end(), 0);
      moved_[use_.registers[r].unit] = units_ + static_cast<uint32_t>(free - taken.begin()) * units;
      if (free == taken.end())
        taken.push_back(1);
      else
        *free = 1;
    }
    units_ += static_cast<uint32_t>(taken.size()) * units;
  }

  void rewrite() {
    for (std::vector<Unit>& list : code_.operands) {
      for (Unit& u : list) u = moved_[u];
    }
    for (Instr& i : code_.instrs) {
      if (i.guard != kNoUnit) i.guard = moved_[i.guard];
      if (i.member_mask != kNoUnit) i.member_mask = moved_[i.member_mask];
    }
    for (Filled& f : code_.filled) f.unit = moved_[f.unit];
    for (Loop& loop : code_.loops) {
      std::vector<Unit> units;
      for (const Unit u : loop.decisive) {
        for (uint32_t k = 0; k < use_.registers[register_of_[u]].units; ++k) units.push_back(moved_[u] + k);
      }
      loop.decisive = std::move(units);
    }
    code_.units = units_;
  }

  const RegisterUse& use_;
  Code& code_;
  std::vector<Unit> moved_;            // first unit of a register -> its new one
  std::vector<uint32_t> register_of_;  // first unit of a register -> its index
  std::vector<Interval> intervals_;
  std::vector<uint32_t> global_;  // index in the bit sets, or kLocal
  std::vector<uint32_t> named_;   // and back
  uint32_t units_ = 0;
};

}  // namespace

void pack_registers(const RegisterUse& use, Code& code) { Packer(use, code).run(); }

}  // namespace emu
