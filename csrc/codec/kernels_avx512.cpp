// Kernels of the codecs for AVX-512; called only where the processor has it. Like reduce.inc, they
// call no inline function of a header; tests/native checks the object files for that.
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

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")

#define MLS_ISA avx512
#define MLS_F16C 1
#define MLS_VECTOR_BYTES 64
#include "base/half.inc"
#include "codec/cast.inc"
#include "codec/low_rank.inc"
#include "codec/quantise.inc"
#include "codec/select.inc"

#endif
