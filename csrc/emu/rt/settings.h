// Settings by name: what the environment and emu_set() say.
#pragma once

#include <string>

#include "emu/config.h"

namespace emu {

// Empty, or the sentence that says what `name` or `value` must be.
std::string set_setting(Config* config, const std::string& name, const std::string& value);
// False: there is no such setting.
bool get_setting(const Config& config, const std::string& name, std::string* value);

}  // namespace emu
