// Neighbouring elements of an array, or slots of a table.
#pragma once

#include <cstdint>

namespace mls {

struct Range {
  std::uint64_t start = 0;
  std::uint64_t length = 0;

  constexpr std::uint64_t end() const { return start + length; }
  constexpr bool operator==(const Range&) const = default;
};

}  // namespace mls
