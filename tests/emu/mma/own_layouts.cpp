// Prints the fragment layouts of csrc/emu/exec/mma_layout.h in the form of cute_layouts.cpp, for the shapes given as
// arguments: name m parts_a registers_a registers_b registers_c half.
#include <cstdio>
#include <cstdlib>

#include "emu/exec/mma_layout.h"

using namespace emu::layout;

int main(int argc, char** argv) {
  for (int at = 1; at + 6 < argc; at += 7) {
    const char* name = argv[at];
    const int m = std::atoi(argv[at + 1]), parts = std::atoi(argv[at + 2]);
    const int registers[3] = {std::atoi(argv[at + 3]), std::atoi(argv[at + 4]), std::atoi(argv[at + 5])};
    const int parts_c = std::atoi(argv[at + 6]) != 0 ? 2 : 1;
    for (int matrix = 0; matrix < 3; ++matrix) {
      std::printf("%s %c", name, "abc"[matrix]);
      const int each = matrix == 2 ? parts_c : parts;
      for (int lane = 0; lane < 32; ++lane) {
        for (int value = 0; value < registers[matrix] * each; ++value) {
          const int reg = value / each, part = value % each;
          Cell cell{};
          if (matrix == 0) cell = a_cell(m, parts, lane, reg, part);
          if (matrix == 1) cell = b_cell(parts, lane, reg, part);
          if (matrix == 2) cell = parts_c == 2 ? c_half_cell(lane, reg, part) : c_cell(lane, reg);
          // CuTe has B as n x k.
          if (matrix == 1) cell = {cell.col, cell.row};
          std::printf(" %d,%d", cell.row, cell.col);
        }
      }
      std::printf("\n");
    }
  }
  std::printf("scale_lanes a");
  for (int row = 0; row < 16; ++row) std::printf(" %d,%d", scale_a_lane(row, 0), scale_a_lane(row, 1));
  std::printf("\nscale_lanes b");
  for (int col = 0; col < 8; ++col) {
    for (int thread = 0; thread < 4; ++thread) std::printf(" %d,%d", col, scale_b_lane(col, thread));
  }
  std::printf("\n");
}
