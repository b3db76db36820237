// A bound on the time of a launch on the real device, from the counts of the emulated one and published rates. It is a
// prediction, and says so in every text.
#pragma once

#include <cstdint>
#include <string>

namespace emu {

// One entry a recorded launch: {kernel, arch, board, predicted: true, seconds, bound, parts: {name: seconds}, unrated:
// []}. `global_bytes` is what one launch must move at least between the memory and the chip; 0: that part is left out.
std::string predict_json(uint64_t global_bytes);

}  // namespace emu
