// Kernels of the codecs for AVX2 and F16C; called only where the processor has it. Like reduce.inc,
// they call no inline function of a header; tests/native checks the object files for that.
#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "codec/cast.hpp"
#include "codec/low_rank.hpp"
#include "codec/quantise.hpp"
#include "codec/select.hpp"

#pragma GCC target("avx2,fma,f16c")

#define MLS_ISA avx2
#define MLS_F16C 1
#define MLS_VECTOR_BYTES 32
#include "base/half.inc"
#include "codec/cast.inc"
#include "codec/low_rank.inc"
#include "codec/quantise.inc"
#include "codec/select.inc"

#endif
