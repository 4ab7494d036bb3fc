// The sum of the squares of float32, in one order everywhere: devices have the host's bits.
//
// Tiles of 2048 elements are summed in 256 lanes: lane l adds up the elements l, l + 256, ... of
// the tile, and halves of the lanes are added to one another. So are the tiles: lane l adds up the
// tiles l, l + 256, ... Squares are exact in float64, and sums are rounded to it.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "base/one.hpp"

namespace mls {

inline constexpr std::size_t kSquareLanes = 256;
inline constexpr std::size_t kSquareTile = 8 * kSquareLanes;  // elements

double squares(std::span<const float> x);

// What an array of these squares is multiplied by, so that its norm is at most this.
MLS_ONE inline float factor_within(double squares, double most) {
  const double norm = std::sqrt(squares);
  return norm > most ? static_cast<float>(most / norm) : 1.0f;
}

}  // namespace mls
