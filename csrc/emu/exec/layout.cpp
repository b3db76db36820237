// Which functions a kernel reaches, and where their parameters and variables lie.
//
// A function is never active twice in one thread (recursion is refused), so every function has a frame of its own in
// the local space of the thread, and an argument variable of a call is the formal of the callee: nothing is copied.
#include <algorithm>
#include <functional>

#include "emu/exec/linker.h"

namespace emu {
namespace {

using ptx::Function;
using ptx::Operand;
using ptx::Space;
using ptx::Statement;
using ptx::Variable;
using Kind = Operand::Kind;

uint64_t align_up(uint64_t x, uint64_t a) { return (x + a - 1) / a * a; }

void for_each_symbol(const Operand& o, const std::function<void(const std::string&)>& see) {
  if (o.kind == Kind::kSymbol) see(o.name);
  for (const Operand& part : o.parts) for_each_symbol(part, see);
}

class Planner {
 public:
  Planner(const ptx::Module& module, Code& code) : module_(module), code_(code) {}

  Layout run(const std::string& kernel) {
    const Function* f = find_function(module_, kernel);
    if (f == nullptr || !f->is_entry || !f->has_body) throw LinkError("the module has no kernel '" + kernel + "'");
    reach(*f);
    for (std::size_t i = 0; i < layout_.functions.size(); ++i) find_calls(static_cast<int>(i));
    refuse_recursion();
    place_kernel_parameters();
    place_formals();
    for (std::size_t i = 0; i < layout_.functions.size(); ++i) place_arguments(static_cast<int>(i));
    for (FunctionLayout& f : layout_.functions) place_variables(f);
    place_shared();
    code_.local_bytes = align_up(code_.local_bytes, 16);
    return std::move(layout_);
  }

 private:
  struct Edge {
    int callee;
    int line;
  };

  int reach(const Function& f) {
    const auto found = layout_.index.find(f.name);
    if (found != layout_.index.end()) return found->second;
    const int i = static_cast<int>(layout_.functions.size());
    layout_.index[f.name] = i;
    layout_.functions.emplace_back().function = &f;
    edges_.emplace_back();
    return i;
  }

  void add_edge(int caller, const Function& callee, int line) {
    const int to = reach(callee);  // may move edges_
    edges_[static_cast<std::size_t>(caller)].push_back({to, line});
  }

  // Functions whose address is taken: by an initial value, or by a statement that does not call them.
  const std::set<std::string>& addressed() {
    if (!knows_addressed_) find_addressed();
    knows_addressed_ = true;
    return addressed_;
  }

  void find_addressed() {
    auto see = [this](const std::string& name) {
      const Function* f = find_function(module_, name);
      if (f != nullptr && !f->is_entry && f->has_body) addressed_.insert(f->name);
    };
    for (const Variable& v : module_.variables) {
      for (const Variable::Relocation& r : v.relocations) see(r.symbol);
    }
    for (const Function& f : module_.functions) {
      for (const Statement& st : f.body) {
        if (st.opcode == "call") continue;
        for (const Operand& o : st.operands) for_each_symbol(o, see);
      }
    }
  }

  void find_calls(int index) {
    const Function& f = *layout_.functions[static_cast<std::size_t>(index)].function;
    for (const Statement& st : f.body) {
      if (st.opcode != "call") continue;
      const CallOperands call = call_operands(st);
      if (call.callee->kind == Kind::kSymbol) {
        const Function* callee = find_function(module_, call.callee->name);
        if (callee == nullptr) throw LinkError(st.line, "'" + call.callee->name + "' is no function of this module");
        if (callee->has_body) add_edge(index, *callee, st.line);
        continue;
      }
      const std::vector<std::string> names = candidates(f, st, call);
      for (const std::string& name : names) add_edge(index, *find_function(module_, name), st.line);
      layout_.functions[static_cast<std::size_t>(index)].indirect[&st] = names;
    }
  }

  std::vector<std::string> candidates(const Function& f, const Statement& st, const CallOperands& call) {
    std::vector<std::string> names;
    const auto listed = f.call_targets.find(call.prototype);
    if (listed != f.call_targets.end()) {
      for (const std::string& name : listed->second) {
        const Function* target = find_function(module_, name);
        if (target == nullptr || !target->has_body)
          throw LinkError(st.line, "'" + name + "' has no body in this module");
        names.push_back(target->name);
      }
      return names;
    }
    const auto prototype = f.prototypes.find(call.prototype);
    if (prototype == f.prototypes.end())
      throw LinkError(st.line, "an indirect call needs a prototype or a list of targets");
    for (const std::string& name : addressed()) {
      const Function* target = find_function(module_, name);
      if (same_signature(target->parameters, prototype->second.parameters) &&
          same_signature(target->results, prototype->second.results)) {
        names.push_back(name);
      }
    }
    if (names.empty())
      throw LinkError(st.line, "no function of this module fits the prototype '" + call.prototype + "'");
    return names;
  }

  void refuse_recursion() {
    enum Mark : char { kNew, kOpen, kDone };
    std::vector<Mark> marks(layout_.functions.size(), kNew);
    std::function<void(int)> visit = [&](int i) {
      marks[static_cast<std::size_t>(i)] = kOpen;
      for (const Edge& e : edges_[static_cast<std::size_t>(i)]) {
        if (marks[static_cast<std::size_t>(e.callee)] == kOpen) {
          throw LinkError(e.line, "'" + layout_.functions[static_cast<std::size_t>(e.callee)].function->name +
                                      "' may call itself; recursion is not supported");
        }
        if (marks[static_cast<std::size_t>(e.callee)] == kNew) visit(e.callee);
      }
      marks[static_cast<std::size_t>(i)] = kDone;
    };
    visit(0);
  }

  void place_kernel_parameters() {
    FunctionLayout& kernel = layout_.functions[0];
    for (const Variable& v : kernel.function->parameters) {
      code_.param_bytes = align_up(code_.param_bytes, v.align);
      const Place place{Space::kParam, code_.param_bytes, v.bytes};
      kernel.places[v.name] = place;
      kernel.parameters.push_back(place);
      code_.param_bytes += v.bytes;
    }
    code_.parameters = kernel.parameters;
  }

  Place allocate_local(const Variable& v) {
    code_.local_bytes = align_up(code_.local_bytes, v.align);
    const Place place{Space::kLocal, code_.local_bytes, v.bytes};
    code_.local_bytes += v.bytes;
    return place;
  }

  // Functions that one indirect call can reach have their formals at one place, so that the caller need not know which
  // it will be: they never call each other, since a call from one of them that fits is recursion.
  void place_formals() {
    std::vector<int> group(layout_.functions.size());
    for (std::size_t i = 0; i < group.size(); ++i) group[i] = static_cast<int>(i);
    for (const FunctionLayout& f : layout_.functions) {
      for (const auto& [st, names] : f.indirect) {
        for (const std::string& name : names) {
          const int from = group[index_of(name)], to = group[index_of(names[0])];
          std::replace(group.begin(), group.end(), from, to);
        }
      }
    }
    refuse_calls_inside(group);
    std::map<int, std::size_t> first;
    for (std::size_t i = 1; i < layout_.functions.size(); ++i) {
      FunctionLayout& f = layout_.functions[i];
      const auto [leader, is_new] = first.emplace(group[i], i);
      place_list(f, f.function->results, f.results, is_new ? nullptr : &layout_.functions[leader->second].results);
      place_list(f, f.function->parameters, f.parameters,
                 is_new ? nullptr : &layout_.functions[leader->second].parameters);
    }
  }

  std::size_t index_of(const std::string& name) const { return static_cast<std::size_t>(layout_.index.at(name)); }

  // While one function of the group runs its formals must stay: so none may reach another of its group.
  void refuse_calls_inside(const std::vector<int>& group) const {
    for (std::size_t start = 0; start < group.size(); ++start) {
      std::vector<char> seen(group.size(), 0);
      std::function<void(std::size_t)> visit = [&](std::size_t i) {
        for (const Edge& e : edges_[i]) {
          const std::size_t callee = static_cast<std::size_t>(e.callee);
          if (group[callee] == group[start]) {
            throw LinkError(
                e.line,
                "'" + layout_.functions[callee].function->name + "' and '" + layout_.functions[start].function->name +
                    "' can stand behind the same indirect call; a call of one inside the other is not supported");
          }
          if (!seen[callee]) seen[callee] = 1, visit(callee);
        }
      };
      visit(start);
    }
  }

  void place_list(FunctionLayout& f, const std::vector<Variable>& formals, std::vector<Place>& into,
                  const std::vector<Place>* shared) {
    for (const Variable& v : formals) {
      const std::size_t k = into.size();
      if (v.space == Space::kReg) {
        into.push_back({Space::kReg, 0, v.bytes});
        continue;
      }
      into.push_back(shared != nullptr ? (*shared)[k] : allocate_local(v));
      f.places[v.name] = into.back();
    }
  }

  void place_arguments(int index) {
    FunctionLayout& f = layout_.functions[static_cast<std::size_t>(index)];
    for (const Statement& st : f.function->body) {
      if (st.opcode != "call") continue;
      const CallOperands call = call_operands(st);
      const bool is_direct = call.callee->kind == Kind::kSymbol;
      const Function* callee = find_function(module_, is_direct ? call.callee->name : f.indirect.at(&st)[0]);
      if (!callee->has_body) continue;
      const FunctionLayout& formals = layout_.functions[index_of(callee->name)];
      bind(f, st, call.results, formals.results, callee->results);
      bind(f, st, call.arguments, formals.parameters, callee->parameters);
    }
  }

  void bind(FunctionLayout& f, const Statement& st, const Operand* actuals, const std::vector<Place>& places,
            const std::vector<Variable>& formals) {
    const std::size_t count = actuals == nullptr ? 0 : actuals->parts.size();
    if (count != formals.size()) {
      throw LinkError(st.line, "the call has " + std::to_string(count) + " operands where the function has " +
                                   std::to_string(formals.size()));
    }
    for (std::size_t k = 0; k < count; ++k) {
      const Operand& actual = actuals->parts[k];
      if (actual.kind != Kind::kSymbol) continue;  // a register or a constant: moved beside the call
      const Variable* v = nullptr;
      for (const Variable& candidate : f.function->variables) {
        if (candidate.name == actual.name && candidate.space == Space::kParam) v = &candidate;
      }
      if (v == nullptr) throw LinkError(st.line, "'" + actual.name + "' is no .param variable of this function");
      if (v->bytes != formals[k].bytes) {
        throw LinkError(st.line, "'" + actual.name + "' has " + std::to_string(v->bytes) +
                                     " bytes where the function takes " + std::to_string(formals[k].bytes));
      }
      const auto [known, is_new] = f.places.emplace(actual.name, places[k]);
      if (!is_new && known->second.offset != places[k].offset) {
        throw LinkError(st.line,
                        "'" + actual.name + "' is an argument of two different functions, which is not supported");
      }
    }
  }

  void place_variables(FunctionLayout& f) {
    for (const Variable& v : f.function->variables) {
      if (v.space == Space::kLocal || v.space == Space::kParam) {
        if (f.places.count(v.name) == 0) f.places[v.name] = allocate_local(v);
      } else if (v.space != Space::kShared) {
        throw LinkError(v.line, "'" + v.name + "': .global and .const inside a function are not supported");
      }
    }
  }

  // Static variables first, each at its alignment; the arrays of dynamic size all begin behind them.
  void place_shared() {
    struct Dynamic {
      std::map<std::string, Place>* places;
      std::string name;
    };
    std::vector<Dynamic> dynamic;
    uint64_t dynamic_align = 16;
    auto place = [&](const Variable& v, std::map<std::string, Place>& places) {
      if (v.space != Space::kShared || places.count(v.name) != 0) return;
      code_.shared_align = std::max(code_.shared_align, v.align);
      if (v.is_extern && v.bytes == 0) {
        dynamic.push_back({&places, v.name});
        dynamic_align = std::max(dynamic_align, v.align);
        places[v.name] = {};
        return;
      }
      code_.shared_bytes = align_up(code_.shared_bytes, v.align);
      places[v.name] = {Space::kShared, code_.shared_bytes, v.bytes};
      code_.shared_bytes += v.bytes;
    };
    std::set<std::string> used;
    for (FunctionLayout& f : layout_.functions) {
      for (const Statement& st : f.function->body) {
        for (const Operand& o : st.operands) {
          for_each_symbol(o, [&](const std::string& name) {
            if (f.places.count(name) == 0) used.insert(name);
          });
        }
      }
    }
    for (const Variable& v : module_.variables) {
      if (used.count(v.name) != 0) place(v, layout_.shared);
    }
    for (FunctionLayout& f : layout_.functions) {
      for (const Variable& v : f.function->variables) place(v, f.places);
    }
    code_.dynamic_offset = align_up(code_.shared_bytes, dynamic_align);
    for (const Dynamic& d : dynamic) (*d.places)[d.name] = {Space::kShared, code_.dynamic_offset, 0};
  }

  const ptx::Module& module_;
  Code& code_;
  Layout layout_;
  std::vector<std::vector<Edge>> edges_;
  bool knows_addressed_ = false;
  std::set<std::string> addressed_;
};

}  // namespace

const Function* find_function(const ptx::Module& module, const std::string& name) {
  const auto alias = module.aliases.find(name);
  const std::string& target = alias == module.aliases.end() ? name : alias->second;
  for (const Function& f : module.functions) {
    if (f.name == target) return &f;
  }
  return nullptr;
}

uint64_t function_address(const ptx::Module& module, const std::string& name) {
  const Function* f = find_function(module, name);
  if (f == nullptr) return 0;
  const uint64_t index = static_cast<uint64_t>(f - module.functions.data());
  return (uint64_t{0x7F} << 56) + 16 * (index + 1);  // beyond every window of memory/memory.h
}

CallOperands call_operands(const Statement& st) {
  CallOperands c;
  std::size_t at = 0;
  auto left = [&] { return at < st.operands.size(); };
  if (left() && st.operands[at].kind == Kind::kList) c.results = &st.operands[at++];
  if (left()) c.callee = &st.operands[at++];
  if (left() && st.operands[at].kind == Kind::kList) c.arguments = &st.operands[at++];
  if (left() && st.operands[at].kind == Kind::kSymbol) c.prototype = st.operands[at++].name;
  if (c.callee == nullptr || left() || (c.callee->kind != Kind::kSymbol && c.callee->kind != Kind::kRegister)) {
    throw LinkError(st.line, "call needs (results), a function, (arguments) and, where it is indirect, a prototype");
  }
  return c;
}

bool same_signature(const std::vector<Variable>& a, const std::vector<Variable>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].bytes != b[i].bytes || a[i].space != b[i].space) return false;
  }
  return true;
}

Layout lay_out(const ptx::Module& module, const std::string& kernel, Code& code) {
  return Planner(module, code).run(kernel);
}

}  // namespace emu
