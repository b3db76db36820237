// Errors of the runtime calls: the code that a program gets, and the sentence behind it for a reader (emu_error()).
#pragma once

#include <string>

#include "emu/report.h"
#include "emu/rt/abi.h"

namespace emu {

// Records `code` as the last error of this thread and `sentence` as emu_error(); gives the code back.
abi::Error fail(abi::Error code, const std::string& sentence);
// What a finding of a launch is to the program; sticks to the device until the reports are cleared.
abi::Error error_of(Finding finding);
void set_device_error(abi::Error code);
void clear_device_error();
// Every runtime call begins here: kSuccess, or the error that sticks to the device.
abi::Error device_error();

abi::Error last_error(bool reset);
const std::string& last_sentence();
void set_sentence(const std::string& sentence);

const char* error_name(int code);
const char* error_text(int code);

}  // namespace emu
