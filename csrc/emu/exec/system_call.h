// Functions that PTX declares without a body because the system has them: vprintf and __assertfail.
#pragma once

#include <string_view>

#include "emu/exec/program.h"

namespace emu {

// Null: there is no such function. The handler's plan is the Call; it falls through.
Instr::Handler find_system_call(std::string_view name);

}  // namespace emu
