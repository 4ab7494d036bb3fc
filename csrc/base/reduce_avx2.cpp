// Reductions with AVX2 and F16C; called only where the processor has it.
#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/reduce_table.hpp"

#pragma GCC target("avx2,fma,f16c")

#define MLS_TABLE kAvx2Kernels
#define MLS_F16C 1
#include "base/reduce.inc"

#endif
