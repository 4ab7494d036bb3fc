// Elementwise reductions of arrays, with the instruction set chosen at run time.
//
//   reduce:         into[i] = into[i] op from[i]               any ReduceOp, any DType
//   reduce_blocks:  into[k][i] = from[0][i] op from[1][i] ...  for all k; divided if asked for
//   divide:         data[i] = data[i] / divisor                floats
//
// Rounding: float16 and bfloat16 are widened to float32, combined, and rounded to nearest even;
// reduce_blocks rounds once, after the last block.
// NaN: min and max return NaN where either side is NaN (IEEE 754-2019 minimum, maximum); of two
// zeros of different sign either may be returned. Integers wrap around in sums and products.
// Instruction sets: baseline (any machine), AVX2 with F16C and FMA, AVX-512 (F, BW, VL, DQ). All
// give the same bits, except that the payload of a NaN is not promised.
// Memory: arrays need no alignment; they must not overlap, except that reduce_blocks may write what
// it reads.
#pragma once

#include <cstddef>
#include <span>

#include "base/dtype.hpp"

namespace mls {

enum class ReduceOp : std::uint8_t { sum, min, max, product };

// any:   ((0 + 1) + 2) + 3 ...
// tree:  (0 + 1) + (2 + 3) ...: a balanced binary tree over the largest power of two of leaves, the
//        first of which are pairs when there are more blocks. Sums of 2^k neighbouring blocks that
//        were made before give the same bits.
enum class Order : std::uint8_t { any, tree };

struct Combine {
  DType dtype = DType::f32;
  ReduceOp op = ReduceOp::sum;
  int divisor = 1;  // of the result, for averages of floats
  Order order = Order::any;
};

void reduce(ReduceOp op, DType dtype, std::byte* into, const std::byte* from, std::size_t count);

// At least one block; `count` elements of each.
void reduce_blocks(const Combine& how, std::span<const std::byte* const> from,
                   std::span<std::byte* const> into, std::size_t count);

// dtype is a float, divisor > 0
void divide(DType dtype, std::byte* data, std::size_t count, int divisor);

}  // namespace mls
