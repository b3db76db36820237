// Fat binaries of loaded objects, and what their host code calls kernels and variables.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "emu/rt/error.h"
#include "emu/rt/fatbin.h"
#include "emu/rt/module.h"

namespace emu {

struct FatBinary {
  std::vector<FatEntry> entries;
  std::string error;  // of the container
  // one module a setting of the device: what the program loads on "80" and on "120f" are different variables too
  struct Loaded {
    std::unique_ptr<Module> module;
    abi::Error error = abi::kSuccess;
    std::string sentence;
  };
  std::map<std::string, Loaded> loaded;
  Loaded& for_device();
};

struct HostKernel {  // what a cudaKernel_t points to
  FatBinary* binary;
  std::string name;
};

struct HostVariable {
  FatBinary* binary;
  std::string name;
  size_t bytes;
};

struct Registry {
  std::recursive_mutex mutex;  // of every runtime call that touches modules or launches
  std::vector<std::unique_ptr<FatBinary>> binaries;
  std::map<const void*, std::unique_ptr<HostKernel>> kernels;  // by host function
  std::map<const void*, HostVariable> variables;               // by host variable
};
// Never destroyed: objects unregister themselves at exit, in an order nobody knows.
Registry& registry();

// By host function or cudaKernel_t; on failure the error is recorded and null returned.
Kernel* find_kernel(const void* function);
const HostKernel* find_host_kernel(const void* function);
const Module::Placed* find_variable(const void* symbol);

}  // namespace emu
