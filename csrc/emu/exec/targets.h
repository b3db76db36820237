// Which `.target` a module must have for an instruction to exist.
#pragma once

#include <string>

#include "emu/ptx/module.h"

namespace emu {

// Empty, or why the statement cannot stand in a module of `target` ("sm_80", "sm_120f").
std::string missing_target(const ptx::Statement& statement, const std::string& target);

}  // namespace emu
