// Reductions with AVX-512; called only where the processor has it.
#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/reduce_table.hpp"

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")

#define MLS_TABLE kAvx512Kernels
#define MLS_F16C 1
#include "base/reduce.inc"

#endif
