#include "emu/exec/linker.h"

#include <algorithm>

#include "emu/exec/special.h"
#include "emu/exec/targets.h"

namespace emu {
namespace {

using ptx::Operand;
using ptx::Statement;
using ptx::Type;
using Kind = Operand::Kind;

uint32_t units_of(int bits) { return bits <= 32 ? 1 : static_cast<uint32_t>(bits / 32); }

std::string sentence(const Statement& st, const std::string& why) {
  return "line " + std::to_string(st.line) + ": " + why + " in '" + st.text + "'";
}

// The name under which a formal of a callee is known where it is called: no name of PTX has a '/'.
std::string formal_name(const std::string& function, const std::string& formal) { return function + "/" + formal; }

Operand named(Kind kind, const std::string& name) {
  Operand o;
  o.kind = kind;
  o.name = name;
  return o;
}

bool ends_path(const std::string& opcode) {
  return opcode == "bra" || opcode == "brx" || opcode == "ret" || opcode == "exit";
}

}  // namespace

// ---- registers and symbols

Unit Linker::new_register(int bits, int function) {
  VirtualRegister r;
  r.unit = code_.units;
  r.units = units_of(bits);
  r.is_predicate = bits == 1;
  r.function = function;
  code_.units += r.units;
  use_.registers.push_back(r);
  return r.unit;
}

Unit Linker::scratch(int bits) { return new_register(bits, current_); }

Unit Linker::constant(uint64_t bits, int width) { return filled({0, width, Fill::kConstant, 0, bits, ""}); }

Unit Linker::filled(Filled f) {
  const auto [known, is_new] =
      fills_.emplace(std::make_tuple(static_cast<int>(f.fill), f.width, f.axis, f.bits, f.symbol), Unit{0});
  if (is_new) {
    f.unit = known->second = new_register(f.width, -1);
    code_.filled.push_back(std::move(f));
  }
  return known->second;
}

Linker::RegisterRef Linker::find_register(const std::string& name) {
  const auto known = registers_.find(name);
  if (known != registers_.end()) return known->second;
  const auto crossing = crossing_.find(name);
  if (crossing != crossing_.end()) return crossing->second;
  const auto declared = declared_.find(name);
  if (declared == declared_.end()) throw LinkError(sentence(*statement_, "'" + name + "' is no register"));
  const RegisterRef r{new_register(ptx::bits_of(declared->second), current_), declared->second};
  registers_.emplace(name, r);
  return r;
}

Linker::SymbolRef Linker::find_symbol(const std::string& name) const {
  const FunctionLayout& f = layout_.functions[static_cast<std::size_t>(current_)];
  auto fixed = [](const Place& p) { return SymbolRef{p.space, true, p.offset}; };
  const auto local = f.places.find(name);
  if (local != f.places.end()) return fixed(local->second);
  const std::size_t slash = name.find('/');
  if (slash != std::string::npos) {
    const auto callee = layout_.index.find(name.substr(0, slash));
    return fixed(layout_.functions[static_cast<std::size_t>(callee->second)].places.at(name.substr(slash + 1)));
  }
  const auto shared = layout_.shared.find(name);
  if (shared != layout_.shared.end()) return fixed(shared->second);
  for (const ptx::Variable& v : module_.variables) {
    if (v.name == name) return {v.space, false, 0};
  }
  const uint64_t address = function_address(module_, name);
  if (address == 0) throw LinkError(sentence(*statement_, "'" + name + "' is not declared"));
  return {ptx::Space::kNone, true, address};
}

// ---- branches and calls

const std::vector<uint32_t>* Linker::branch_table(const std::string& list) {
  auto table = std::make_shared<std::vector<uint32_t>>();
  tables_.emplace_back(table.get(), function().branch_targets.at(list));
  pending_table_ = table.get();
  code_.plans.push_back(std::move(table));
  return pending_table_;
}

const Statement& Linker::own(Statement st) {
  auto kept = std::make_shared<const Statement>(std::move(st));
  code_.plans.push_back(kept);
  return *kept;
}

// An actual that is a register or a constant, or a formal that is a register, needs a move before or after the call.
void Linker::move_argument(const ptx::Variable& formal, const std::string& callee, const Operand& actual,
                           bool is_result, std::vector<Statement>& moves) {
  if (actual.kind == Kind::kSymbol) {
    if (formal.space == ptx::Space::kReg) {
      throw LinkError(sentence(*statement_, "'" + actual.name + "' stands for a parameter that is a register"));
    }
    return;
  }
  if (is_result && actual.kind == Kind::kSink) return;
  Statement st;
  st.line = statement_->line;
  st.text = statement_->text;
  st.guard = statement_->guard;
  st.guard_negated = statement_->guard_negated;
  const std::string name = formal_name(callee, formal.name);
  const Type type = ptx::bits_type(static_cast<int>(formal.bytes * 8));
  Operand place = named(Kind::kRegister, name);
  if (formal.space == ptx::Space::kReg) {
    st.opcode = "mov";
  } else {
    st.opcode = is_result ? "ld" : "st";
    st.modifiers.push_back("param");
    place = named(Kind::kSymbol, name);
    Operand address;
    address.kind = Kind::kAddress;
    address.parts.push_back(std::move(place));
    place = std::move(address);
  }
  st.modifiers.push_back(ptx::name_of(type));
  st.operands = is_result ? std::vector<Operand>{actual, place} : std::vector<Operand>{place, actual};
  moves.push_back(std::move(st));
}

const Call* Linker::call(Decoder& d) {
  const Statement& st = *statement_;
  const CallOperands operands = call_operands(st);
  const FunctionLayout& caller = layout_.functions[static_cast<std::size_t>(current_)];
  auto call = std::make_shared<Call>();
  const bool is_direct = operands.callee->kind == Kind::kSymbol;
  const ptx::Function* callee = find_function(module_, is_direct ? operands.callee->name : caller.indirect.at(&st)[0]);
  if (is_direct) {
    call->name = callee->name;
    call->has_body = callee->has_body;
    if (callee->has_body) pending_callee_ = callee->name;
  } else {
    d.add_source(*operands.callee, Type::kB64);
    indirect_calls_.emplace_back(call.get(), caller.indirect.at(&st));
  }
  std::vector<Statement> before, after;
  auto take = [&](const Operand* actuals, const std::vector<ptx::Variable>& formals, bool is_result,
                  std::vector<Place>& places) {
    for (std::size_t k = 0; actuals != nullptr && k < actuals->parts.size(); ++k) {
      const Operand& actual = actuals->parts[k];
      if (callee->has_body) {
        move_argument(formals[k], callee->name, actual, is_result, is_result ? after : before);
      } else if (actual.kind != Kind::kSymbol) {
        throw LinkError(sentence(st, "an argument of '" + callee->name + "' must be a .param variable"));
      }
      if (actual.kind == Kind::kSymbol) {
        const SymbolRef symbol = find_symbol(actual.name);
        if (symbol.space != ptx::Space::kLocal) {
          throw LinkError(sentence(st, "'" + actual.name + "' must be a .param variable of this function"));
        }
        places.push_back(caller.places.at(actual.name));
      } else if (callee->has_body && formals[k].space != ptx::Space::kReg) {
        places.push_back(
            layout_.functions[static_cast<std::size_t>(layout_.index.at(callee->name))].places.at(formals[k].name));
      } else {
        places.push_back({ptx::Space::kReg, 0, 0});
      }
    }
  };
  take(operands.results, callee->results, true, call->results);
  take(operands.arguments, callee->parameters, false, call->arguments);
  for (Statement& move : before) moves_before_.push_back(&own(std::move(move)));
  for (Statement& move : after) moves_after_.push_back(&own(std::move(move)));
  const Call* raw = call.get();
  code_.plans.push_back(std::move(call));
  return raw;
}

// ---- instructions

void Linker::insert_before(Instr i, std::vector<Unit> d, std::vector<Unit> s) {
  before_.push_back({i, std::move(d), std::move(s)});
}
void Linker::insert_after(Instr i, std::vector<Unit> d, std::vector<Unit> s) {
  after_.push_back({i, std::move(d), std::move(s)});
}

void Linker::append(Instr instr, std::vector<Unit> d, std::vector<Unit> s, Successors next) {
  if (d.size() > 255 || s.size() > 255) throw LinkError(sentence(*statement_, "too many operands"));
  instr.nd = static_cast<uint8_t>(d.size());
  instr.ns = static_cast<uint8_t>(s.size());
  d.insert(d.end(), s.begin(), s.end());
  code_.operands.push_back(std::move(d));
  instr.d = code_.operands.back().data();
  instr.s = instr.d + instr.nd;
  instr.statement = static_cast<uint32_t>(code_.statements.size() - 1);
  code_.instrs.push_back(instr);
  use_.successors.push_back(next);
}

void Linker::decode_statement(const Statement& st) {
  statement_ = &st;
  const DecodeFunction decode = find_instruction(st.opcode);
  if (decode == nullptr) throw LinkError(sentence(st, "unknown instruction '" + st.opcode + "'"));
  pending_branch_.clear();
  pending_table_ = nullptr;
  pending_callee_.clear();
  before_.clear();
  after_.clear();
  moves_before_.clear();
  moves_after_.clear();
  Decoder d(st, *this, code_);
  decode(d);
  std::string why = d.failed() ? d.error_ : d.leftover();
  if (why.empty() && d.instr.run == nullptr) why = "no form of '" + st.opcode + "' has these modifiers";
  if (why.empty()) why = missing_target(st, module_.target);
  if (!why.empty()) throw LinkError(sentence(st, st.opcode + ": " + why));
  Instr guarded;
  if (!st.guard.empty()) {
    const RegisterRef guard = find_register(st.guard);
    if (guard.type != Type::kPred) throw LinkError(sentence(st, "guard '" + st.guard + "' is no predicate"));
    guarded.guard = guard.unit;
    guarded.guard_negated = st.guard_negated;
  }
  d.instr.guard = guarded.guard;
  d.instr.guard_negated = guarded.guard_negated;

  // Moves are decoded like any statement, by a Linker state that this call is done with.
  const std::string branch = std::move(pending_branch_), callee = std::move(pending_callee_);
  const std::vector<uint32_t>* table = pending_table_;
  std::vector<Inserted> before = std::move(before_), after = std::move(after_);
  const std::vector<const Statement*> moves_before = std::move(moves_before_), moves_after = std::move(moves_after_);
  for (const Statement* move : moves_before) decode_statement(*move);

  statement_ = &st;
  code_.statements.push_back(&st);
  for (Inserted& i : before) append(i.instr, std::move(i.d), std::move(i.s), {});
  const uint32_t index = static_cast<uint32_t>(code_.instrs.size());
  Successors next;
  next.falls_through = !st.guard.empty() || !ends_path(st.opcode);
  next.table = table;
  if (!branch.empty()) branches_.emplace_back(index, branch);
  if (!callee.empty()) calls_.emplace_back(index, callee);
  append(d.instr, std::move(d.d_), std::move(d.s_), next);
  for (Inserted& i : after) {
    i.instr.guard = guarded.guard;
    i.instr.guard_negated = guarded.guard_negated;
    append(i.instr, std::move(i.d), std::move(i.s), {});
  }
  for (const Statement* move : moves_after) decode_statement(*move);
}

void Linker::decode_function(int index) {
  current_ = index;
  const ptx::Function& f = function();
  registers_.clear();
  declared_.clear();
  branches_.clear();
  tables_.clear();
  for (const ptx::Register& r : f.registers) declared_[r.name] = r.type;
  for (const auto* formals : {&f.results, &f.parameters}) {
    for (const ptx::Variable& v : *formals) {
      const auto crossing = crossing_.find(formal_name(f.name, v.name));
      if (crossing != crossing_.end()) registers_[v.name] = crossing->second;
    }
  }
  const uint32_t begin = static_cast<uint32_t>(code_.instrs.size());
  std::vector<uint32_t> first;
  for (const Statement& st : f.body) {
    first.push_back(static_cast<uint32_t>(code_.instrs.size()));
    decode_statement(st);
  }
  first.push_back(static_cast<uint32_t>(code_.instrs.size()));
  Statement end;  // a body may end without it, and a label may stand behind its last statement
  end.line = f.body.empty() ? f.line : f.body.back().line;
  end.text = "(end of " + f.name + ")";
  end.opcode = "ret";
  decode_statement(own(std::move(end)));

  auto target = [&](const std::string& label) {
    const auto found = f.labels.find(label);
    if (found == f.labels.end()) throw LinkError(f.line, "'" + label + "' is no label of '" + f.name + "'");
    return first[found->second];
  };
  for (const auto& [instr, label] : branches_) {
    code_.instrs[instr].target = use_.successors[instr].branch = target(label);
  }
  for (auto& [table, labels] : tables_) {
    for (const std::string& label : labels) table->push_back(target(label));
  }
  use_.functions.emplace_back(begin, static_cast<uint32_t>(code_.instrs.size()));
}

void Linker::run(const std::string& kernel) {
  code_.name = kernel;
  layout_ = lay_out(module_, kernel, code_);
  for (const FunctionLayout& f : layout_.functions) {
    for (const auto* formals : {&f.function->results, &f.function->parameters}) {
      for (const ptx::Variable& v : *formals) {
        if (v.space != ptx::Space::kReg) continue;
        crossing_[formal_name(f.function->name, v.name)] = {new_register(ptx::bits_of(v.type), -1), v.type};
      }
    }
  }
  for (std::size_t i = 0; i < layout_.functions.size(); ++i) decode_function(static_cast<int>(i));
  auto entry = [this](const std::string& name) {
    return use_.functions[static_cast<std::size_t>(layout_.index.at(name))].first;
  };
  std::vector<CallEdge> calls;
  for (const auto& [instr, name] : calls_) {
    code_.instrs[instr].target = entry(name);
    calls.push_back({instr, entry(name)});
  }
  for (auto& [call, names] : indirect_calls_) {
    for (const std::string& name : names) call->entries.push_back({function_address(module_, name), entry(name)});
    for (uint32_t i = 0; i < code_.instrs.size(); ++i) {
      if (code_.instrs[i].plan != call) continue;
      for (const Call::Entry& e : call->entries) calls.push_back({i, e.target});
    }
  }
  for (const char* bound : {"maxntid", "reqntid"}) {
    const auto& directives = layout_.functions[0].function->directives;
    const auto found = directives.find(bound);
    if (found == directives.end()) continue;
    uint64_t threads = 1;
    for (const uint64_t n : found->second) threads *= n;
    code_.max_threads = std::min(code_.max_threads, static_cast<uint32_t>(threads));
  }
  find_loops(use_, calls, code_);
  pack_registers(use_, code_);
  gather_operands();
}

// In the order of the instructions, so that a run reads them forwards.
void Linker::gather_operands() {
  std::vector<Unit> all;
  for (const std::vector<Unit>& list : code_.operands) all.insert(all.end(), list.begin(), list.end());
  const Unit* at = all.data();
  for (Instr& i : code_.instrs) {
    i.d = at;
    i.s = at + i.nd;
    at = i.s + i.ns;
  }
  code_.operands.clear();
  code_.operands.push_back(std::move(all));
}

bool link(const ptx::Module& module, const std::string& name, Code* code, std::string* error) {
  try {
    *code = Code();
    Linker(module, *code).run(name);
    return true;
  } catch (const LinkError& e) {
    *error = name + ": " + e.what();
    return false;
  }
}

}  // namespace emu
