// Kernels of the codecs for any machine. Like reduce.inc, they
// call no inline function of a header; tests/native checks the object files for that.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "codec/cast.hpp"
#include "codec/low_rank.hpp"
#include "codec/quantise.hpp"
#include "codec/select.hpp"

#define MLS_ISA baseline
#define MLS_F16C 0
#define MLS_VECTOR_BYTES 16
#include "base/half.inc"
#include "codec/cast.inc"
#include "codec/low_rank.inc"
#include "codec/quantise.inc"
#include "codec/select.inc"
