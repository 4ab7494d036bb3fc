// Reductions for any machine.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/reduce_table.hpp"

#define MLS_TABLE kBaselineKernels
#define MLS_F16C 0
#include "base/reduce.inc"
