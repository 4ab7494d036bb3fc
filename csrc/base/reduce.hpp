// Elementwise reductions of two arrays, with the instruction set chosen at run time.
//
//   reduce:  into[i] = into[i] op from[i]        op = sum, min, max; any DType
//   divide:  data[i] = data[i] / divisor
//
// Rounding: float16 and bfloat16 are widened to float32, combined, and rounded to nearest even.
// NaN: min and max return NaN where either side is NaN (IEEE 754-2019 minimum, maximum); of two
// zeros of different sign either may be returned. Integers wrap around in sums; their division
// truncates towards zero.
// Instruction sets: baseline (any machine), AVX2 with F16C and FMA, AVX-512 (F, BW, VL, DQ). All
// give the same bits, except that the payload of a NaN is not promised.
// Memory: arrays need no alignment; they must not overlap.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"

namespace mls {

enum class ReduceOp : std::uint8_t { sum, min, max };

void reduce(ReduceOp op, DType dtype, std::byte* into, const std::byte* from, std::size_t count);

// divisor > 0
void divide(DType dtype, std::byte* data, std::size_t count, int divisor);

// What this machine can run, slowest first; the last one is used unless a test chooses another.
std::vector<std::string_view> isa_levels();
std::string_view isa();
bool set_isa(std::string_view level);

}  // namespace mls
