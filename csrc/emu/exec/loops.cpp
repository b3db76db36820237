// Loops of a kernel: strongly connected components of its instructions (Tarjan 1972), calls and returns included, and
// the registers that decide in each of them.
#include <algorithm>
#include <string>

#include "emu/exec/linker.h"

namespace emu {
namespace {

constexpr uint32_t kUnseen = ~uint32_t{0};

// Gives its registers, and nothing else happens.
bool is_pure(const Instr& i) {
  if (i.nd == 0 || (i.flow != Flow::kNext && i.flow != Flow::kWarpSync)) return false;
  switch (i.cls) {
    case Class::kControl:
    case Class::kBarrier:
    case Class::kLoadGlobal:
    case Class::kStoreGlobal:
    case Class::kLoadShared:
    case Class::kStoreShared:
    case Class::kLoadOther:
    case Class::kStoreOther:
    case Class::kAtomic:
    case Class::kAsyncCopy:
    case Class::kMatrixLoad: return false;
    default: return true;
  }
}

class LoopFinder {
 public:
  LoopFinder(const RegisterUse& use, const std::vector<CallEdge>& calls, Code& code)
      : use_(use), code_(code), next_(code.instrs.size()), order_(next_.size(), kUnseen), low_(next_.size(), 0) {
    for (uint32_t i = 0; i < next_.size(); ++i) {
      const Successors& s = use.successors[i];
      if (s.falls_through && i + 1 < next_.size()) next_[i].push_back(i + 1);
      if (s.branch != Successors::kNone) next_[i].push_back(s.branch);
      if (s.table != nullptr) next_[i].insert(next_[i].end(), s.table->begin(), s.table->end());
    }
    for (const CallEdge& c : calls) {
      next_[c.instr].push_back(c.entry);
      for (const auto& [begin, end] : use.functions) {
        if (begin != c.entry) continue;
        for (uint32_t i = begin; i < end; ++i) {
          if (code.statements[code.instrs[i].statement]->opcode == "ret") next_[i].push_back(c.instr + 1);
        }
      }
    }
    code.loop_of.assign(next_.size(), kNoLoop);
  }

  void run() {
    for (uint32_t i = 0; i < next_.size(); ++i) {
      if (order_[i] == kUnseen) visit(i);
    }
  }

 private:
  struct Step {
    uint32_t instr;
    size_t edge;
  };

  void enter(uint32_t instr) {
    order_[instr] = low_[instr] = count_++;
    open_.push_back(instr);
    path_.push_back({instr, 0});
  }

  void visit(uint32_t root) {
    enter(root);
    while (!path_.empty()) {
      const uint32_t i = path_.back().instr;
      if (path_.back().edge < next_[i].size()) {
        const uint32_t to = next_[i][path_.back().edge++];
        if (order_[to] == kUnseen) {
          enter(to);
        } else if (order_[to] != kClosed) {
          low_[i] = std::min(low_[i], order_[to]);
        }
        continue;
      }
      path_.pop_back();
      if (!path_.empty()) low_[path_.back().instr] = std::min(low_[path_.back().instr], low_[i]);
      if (low_[i] == order_[i]) close(i);
    }
  }

  void close(uint32_t first) {
    std::vector<uint32_t> members;
    do {
      members.push_back(open_.back());
      open_.pop_back();
      order_[members.back()] = kClosed;
    } while (members.back() != first);
    const std::vector<uint32_t>& next = next_[first];
    if (members.size() == 1 && std::find(next.begin(), next.end(), first) == next.end()) return;
    for (const uint32_t i : members) code_.loop_of[i] = static_cast<uint32_t>(code_.loops.size());
    code_.loops.push_back(decisive(members));
  }

  // From what has effects back to what it is computed from.
  Loop decisive(const std::vector<uint32_t>& members) const {
    Loop loop;
    const auto has = [&](Unit u) { return std::binary_search(loop.decisive.begin(), loop.decisive.end(), u); };
    const auto add = [&](Unit u) {
      if (u == kNoUnit || has(u)) return false;
      loop.decisive.insert(std::lower_bound(loop.decisive.begin(), loop.decisive.end(), u), u);
      return true;
    };
    for (bool grown = true; grown;) {
      grown = false;
      for (const uint32_t at : members) {
        const Instr& i = code_.instrs[at];
        const bool is_wanted = !is_pure(i) || std::any_of(i.d, i.d + i.nd, has);
        if (!is_wanted && i.flow == Flow::kNext) continue;
        // who takes part decides whether the others wait
        grown |= add(i.guard) | add(i.member_mask);
        if (!is_wanted) continue;
        for (int k = 0; k < i.ns; ++k) grown |= add(i.s[k]);
        loop.has_clock = loop.has_clock || (is_pure(i) && i.ns == 0);
      }
    }
    return loop;
  }

  static constexpr uint32_t kClosed = kUnseen - 1;

  const RegisterUse& use_;
  Code& code_;
  std::vector<std::vector<uint32_t>> next_;
  std::vector<uint32_t> order_, low_, open_;
  std::vector<Step> path_;
  uint32_t count_ = 0;
};

}  // namespace

void find_loops(const RegisterUse& use, const std::vector<CallEdge>& calls, Code& code) {
  LoopFinder(use, calls, code).run();
}

}  // namespace emu
