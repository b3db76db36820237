#include "emu/rt/module.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "emu/exec/decoder.h"
#include "emu/memory/allocator.h"
#include "emu/rt/cubin.h"

namespace emu {
namespace {

bool is_placed(const ptx::Variable& v) {
  return (v.space == ptx::Space::kGlobal || v.space == ptx::Space::kConst) && !v.is_extern;
}

}  // namespace

Module::~Module() {
  for (const auto& [name, placed] : variables_) allocator().free(placed.address);
}

std::unique_ptr<Module> Module::load(std::string_view text, std::string_view elf, std::string* error) {
  try {
    std::unique_ptr<Module> m(new Module);
    if (!ptx::parse(text, &m->ptx_, error) || !m->place(error)) return nullptr;
    m->elf_ = elf;
    return m;
  } catch (const std::exception& e) {
    *error = std::string("module cannot be read: ") + e.what();
    return nullptr;
  }
}

int Module::target() const {
  const size_t digits = ptx_.target.find_first_of("0123456789");
  return digits == std::string::npos ? 0 : std::atoi(ptx_.target.c_str() + digits);
}

// Module variables of .global and .const are zero where nothing is said (PTX ISA 9.0, 5.4.4), so all of them are
// written.
bool Module::place(std::string* error) {
  for (const ptx::Variable& v : ptx_.variables) {
    if (!is_placed(v)) continue;
    const uint64_t address = allocator().allocate(std::max<uint64_t>(v.bytes, 1), v.space == ptx::Space::kConst);
    if (address == 0) {
      *error = "variable " + v.name + " must fit the device memory, got " + std::to_string(v.bytes) + " bytes";
      return false;
    }
    variables_[v.name] = {address, v.bytes};
  }
  for (const ptx::Variable& v : ptx_.variables) {
    if (!is_placed(v)) continue;
    std::vector<uint8_t> bytes(std::max<uint64_t>(v.bytes, 1), 0);
    std::copy_n(v.initial.begin(), std::min(v.initial.size(), bytes.size()), bytes.begin());
    for (const ptx::Variable::Relocation& r : v.relocations) {
      const Placed* target = variable(r.symbol);
      const uint64_t base = target != nullptr ? target->address : function_address(ptx_, r.symbol);
      if (base == 0 || r.at + static_cast<uint64_t>(r.width) > bytes.size()) {
        refused_[v.name] = "line " + std::to_string(v.line) + ": variable " + v.name + " holds the address of " +
                           r.symbol + ", which is no variable or function of the module";
        continue;
      }
      const uint64_t value = (base + static_cast<uint64_t>(r.addend)) >> r.shift;
      std::memcpy(bytes.data() + r.at, &value, static_cast<size_t>(std::min(r.width, 8)));
    }
    allocator().copy_in(variables_[v.name].address, bytes.data(), bytes.size());
  }
  return true;
}

const Module::Placed* Module::variable(const std::string& name) const {
  const auto it = variables_.find(name);
  return it != variables_.end() ? &it->second : nullptr;
}

Kernel* Module::kernel(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return known->second.get();
  const bool exists = std::any_of(ptx_.functions.begin(), ptx_.functions.end(),
                                  [&](const ptx::Function& f) { return f.is_entry && f.has_body && f.name == name; });
  if (!exists) return nullptr;
  auto k = std::make_unique<Kernel>();
  k->name = name;
  try {
    if (link(ptx_, name, &k->code, &k->error)) {
      resolve(k.get());
    } else if (k->error.empty()) {
      k->error = "kernel " + name + " cannot be linked";
    }
  } catch (const std::exception& e) {
    k->error = "kernel " + name + " cannot be linked: " + e.what();
  }
  k->code.registers = registers_of(elf_, name);
  k->max_dynamic_shared = std::max(0, kSharedPerBlock - static_cast<int>(k->code.shared_bytes));
  return kernels_.emplace(name, std::move(k)).first->second.get();
}

// Addresses of module variables are constants from here on.
void Module::resolve(Kernel* kernel) {
  for (Filled& f : kernel->code.filled) {
    if (f.fill != Fill::kSymbol) continue;
    const Placed* placed = variable(f.symbol);
    const auto refused = refused_.find(f.symbol);
    if (refused != refused_.end()) {
      kernel->error = refused->second;
    } else if (placed == nullptr) {
      kernel->error = "kernel " + kernel->name + " uses " + f.symbol + ", which the module does not define";
    } else {
      f.fill = Fill::kConstant;
      f.bits += placed->address;
    }
  }
}

}  // namespace emu
