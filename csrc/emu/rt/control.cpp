#include "emu/rt/control.h"

#include <cstring>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "emu/config.h"
#include "emu/memory/allocator.h"
#include "emu/rt/json.h"
#include "emu/rt/launch.h"
#include "emu/rt/predict.h"
#include "emu/rt/record.h"
#include "emu/rt/registry.h"
#include "emu/rt/settings.h"

namespace emu {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

int refuse(const std::string& sentence) {
  set_sentence(sentence);
  return -1;
}

// Nothing may leave the C ABI but a code.
int guarded(const std::function<int()>& body) {
  const Lock lock(registry().mutex);
  try {
    return body();
  } catch (const std::exception& e) {
    return refuse(std::string("emulator: ") + e.what());
  }
}

const char* guarded_text(std::string* keep, const std::function<std::string()>& body) {
  const Lock lock(registry().mutex);
  try {
    *keep = body();
    return keep->c_str();
  } catch (const std::exception& e) {
    refuse(std::string("emulator: ") + e.what());
    return nullptr;
  }
}

// The modules that a question is about: the given one, or those of all loaded objects for the device as it is set.
std::vector<const Module*> modules(const void* module) {
  if (module != nullptr) return {static_cast<const Module*>(module)};
  std::vector<const Module*> all;
  for (const auto& binary : registry().binaries) {
    if (binary->entries.empty()) continue;
    FatBinary::Loaded& l = binary->for_device();
    if (l.module != nullptr) {
      all.push_back(l.module.get());
    } else {
      set_sentence(l.sentence);
    }
  }
  return all;
}

void collect_symbols(const ptx::Operand& o, std::set<std::string>* names) {
  if (o.kind == ptx::Operand::Kind::kSymbol) names->insert(o.name);
  for (const ptx::Operand& part : o.parts) collect_symbols(part, names);
}

// Opcodes of a function and of all functions that its statements name.
void collect_opcodes(const ptx::Module& m, const std::string& name, std::set<std::string>* seen,
                     std::set<std::string>* opcodes) {
  if (!seen->insert(name).second) return;
  for (const ptx::Function& f : m.functions) {
    if (f.name != name || !f.has_body) continue;
    for (const ptx::Statement& s : f.body) {
      std::string opcode = s.opcode;
      for (const std::string& modifier : s.modifiers) opcode += "." + modifier;
      opcodes->insert(opcode);
      std::set<std::string> symbols;
      for (const ptx::Operand& o : s.operands) collect_symbols(o, &symbols);
      for (const std::string& symbol : symbols) collect_opcodes(m, symbol, seen, opcodes);
    }
  }
}

}  // namespace
}  // namespace emu

using emu::guarded;
using emu::guarded_text;

EMU_API int emu_set(const char* name, const char* value) {
  return guarded([&] {
    const std::string error = emu::set_setting(&emu::config(), name, value);
    return error.empty() ? 0 : emu::refuse(error);
  });
}

EMU_API const char* emu_get(const char* name) {
  thread_local std::string text;
  bool known = false;
  const char* value = guarded_text(&text, [&] {
    std::string v;
    known = emu::get_setting(emu::config(), name, &v);
    if (!known) emu::refuse(std::string("emu_get: there is no setting '") + name + "'");
    return v;
  });
  return known ? value : nullptr;
}

EMU_API const char* emu_error() {
  thread_local std::string text;
  text = emu::last_sentence();
  return text.c_str();
}

EMU_API const char* emu_reports() {
  thread_local std::string text;
  return guarded_text(&text, emu::reports_json);
}

EMU_API void emu_clear_reports() {
  guarded([] {
    emu::records().reports.clear();
    emu::clear_device_error();
    return 0;
  });
}

EMU_API const char* emu_counts() {
  thread_local std::string text;
  return guarded_text(&text, emu::counts_json);
}

EMU_API void emu_clear_counts() {
  guarded([] {
    emu::records().launches.clear();
    emu::records().waits = 0;
    return 0;
  });
}
EMU_API uint64_t emu_waits() {
  const emu::Lock lock(emu::registry().mutex);
  return emu::records().waits;
}

EMU_API void emu_count_instructions(int on) {
  guarded([&] {
    emu::records().list_instructions = on != 0;
    return 0;
  });
}

EMU_API const char* emu_predict(uint64_t global_bytes) {
  thread_local std::string text;
  return guarded_text(&text, [&] { return emu::predict_json(global_bytes); });
}

EMU_API int emu_map(void* host, uint64_t bytes, int initialized) {
  return guarded([&] {
    if (emu::allocator().map(host, bytes, initialized != 0)) return 0;
    return emu::refuse("emu_map: range must not overlap what is mapped or allocated");
  });
}

EMU_API int emu_unmap(void* host) {
  return guarded(
      [&] { return emu::allocator().unmap(host) ? 0 : emu::refuse("emu_unmap: address must be what was mapped"); });
}

EMU_API void* emu_module_load(const char* ptx) {
  emu::Module* module = nullptr;
  guarded([&] {
    std::string error;
    module = emu::Module::load(ptx, {}, &error).release();
    return module != nullptr ? 0 : emu::refuse(error);
  });
  return module;
}

EMU_API void emu_module_unload(void* module) {
  guarded([&] {
    delete static_cast<emu::Module*>(module);
    return 0;
  });
}

EMU_API int emu_module_launch(void* module, const char* kernel, const uint32_t grid[3], const uint32_t block[3],
                              uint64_t dynamic_shared, const void* parameters, uint64_t parameter_bytes) {
  return guarded([&] {
    emu::Kernel* k = static_cast<emu::Module*>(module)->kernel(kernel);
    if (k == nullptr) return emu::refuse(std::string("emu_module_launch: module has no kernel ") + kernel);
    if (!k->error.empty()) return emu::refuse(k->error);
    if (parameter_bytes != k->code.param_bytes) {
      return emu::refuse(std::string("emu_module_launch: parameters of ") + kernel + " must be " +
                         std::to_string(k->code.param_bytes) + " bytes, got " + std::to_string(parameter_bytes));
    }
    const auto* p = static_cast<const std::byte*>(parameters);
    k->max_dynamic_shared = emu::device().shared_opt_in;
    const emu::LaunchShape shape{{grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, dynamic_shared, false};
    return static_cast<int>(emu::launch(*k, shape, std::vector<std::byte>(p, p + parameter_bytes)));
  });
}

EMU_API const char* emu_kernels(void* module) {
  thread_local std::string text;
  return guarded_text(&text, [&] {
    emu::JsonItems list("[]");
    for (const emu::Module* m : emu::modules(module)) {
      for (const emu::ptx::Function& f : m->ptx().functions) {
        if (f.is_entry && f.has_body) list.item(emu::json_string(f.name));
      }
    }
    return list.text();
  });
}

EMU_API const char* emu_opcodes(void* module) {
  thread_local std::string text;
  return guarded_text(&text, [&] {
    emu::JsonItems kernels("{}");
    for (const emu::Module* m : emu::modules(module)) {
      for (const emu::ptx::Function& f : m->ptx().functions) {
        if (!f.is_entry || !f.has_body) continue;
        std::set<std::string> seen, opcodes;
        emu::collect_opcodes(m->ptx(), f.name, &seen, &opcodes);
        emu::JsonItems list("[]");
        for (const std::string& o : opcodes) list.item(emu::json_string(o));
        kernels.member(f.name, list.text());
      }
    }
    return kernels.text();
  });
}
