// Elementwise reductions of two arrays, with the instruction set chosen at run time.
//
// into[i] = into[i] op from[i], and data[i] = data[i] / divisor, for all of DType.
//
// Rounding: float16 and bfloat16 are widened to float32, combined, and rounded to nearest even.
// NaN: min and max return NaN where either side is NaN. Integers wrap around in sums; their
// division truncates towards zero. All instruction sets give the same bits.
//
// Instruction sets: baseline (x86-64 or any other machine), AVX2 with F16C, AVX-512.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/dtype.hpp"

namespace mls {

enum class ReduceOp : std::uint8_t { sum, min, max };

// Both arrays hold `count` elements, aligned to their element; they do not overlap.
void reduce(ReduceOp op, DType dtype, std::byte* into, const std::byte* from, std::size_t count);

void divide(DType dtype, std::byte* data, std::size_t count, int divisor);

// What this machine can run, slowest first; the last one is used unless a test chooses another.
std::vector<std::string_view> isa_levels();
std::string_view isa();
bool set_isa(std::string_view level);

}  // namespace mls
