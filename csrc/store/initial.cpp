#include "store/initial.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "codec/random.hpp"

namespace mls {
namespace {

// In (0, 1).
double open_unit(std::uint32_t bits) { return (bits + 0.5) * 0x1p-32; }

// Two columns at a time (Box, Muller 1958), worked out as float64.
void normal(std::uint64_t key, double scale, std::span<float> into) {
  for (std::size_t column = 0; column < into.size(); column += 2) {
    const double u = open_unit(random_bits(key, column));
    const double v = open_unit(random_bits(key, column + 1));
    const double radius = scale * std::sqrt(-2 * std::log(u));
    const double angle = 2 * std::numbers::pi * v;
    into[column] = static_cast<float>(radius * std::cos(angle));
    if (column + 1 < into.size()) into[column + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace

void initial_row(const Initial& initial, std::uint64_t row, std::span<float> into) {
  const std::uint64_t key = key_of(initial.seed, row);
  switch (initial.kind) {
    case Initial::Kind::zeros:
      std::ranges::fill(into, 0.0f);
      return;
    case Initial::Kind::uniform:
      for (std::size_t column = 0; column < into.size(); ++column) {
        const auto unit = static_cast<float>(random_bits(key, column) >> 8) * 0x1p-23f - 1;
        into[column] = unit * initial.scale;
      }
      return;
    case Initial::Kind::normal:
      normal(key, initial.scale, into);
      return;
  }
}

}  // namespace mls
