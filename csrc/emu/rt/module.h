// A PTX module on the device: its variables placed and initialized, its kernels linked when they are first asked for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "emu/exec/program.h"
#include "emu/ptx/module.h"
#include "emu/rt/device.h"

namespace emu {

struct Kernel {
  std::string name;
  Code code;
  int max_dynamic_shared = 0;  // of one launch: what the static memory leaves of 48 KB; grows by opt-in
  std::string error;           // why it cannot run: the sentence names the PTX line
};

class Module {
 public:
  struct Placed {
    uint64_t address;
    uint64_t bytes;
  };

  ~Module();
  // Null: `error` says what stands where. `elf` (may be empty) is machine code of the same source, for register counts.
  static std::unique_ptr<Module> load(std::string_view text, std::string_view elf, std::string* error);

  const ptx::Module& ptx() const { return ptx_; }
  // Null: there is no such kernel. A kernel that cannot be linked has its error set.
  Kernel* kernel(const std::string& name);
  const Placed* variable(const std::string& name) const;
  // The architecture of its .target: 80 of "sm_80".
  int target() const;

 private:
  Module() = default;
  bool place(std::string* error);
  void resolve(Kernel* kernel);

  ptx::Module ptx_;
  std::string elf_;
  std::map<std::string, Placed> variables_;
  std::map<std::string, std::string> refused_;  // variables that hold what cannot be resolved: the sentence
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

}  // namespace emu
