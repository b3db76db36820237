#include "ref/hadamard.h"

namespace lowbit::ref {

Status hadamard(const HadamardArgs&, const Parallel&) { return unsupported("hadamard: not built"); }

}  // namespace lowbit::ref
