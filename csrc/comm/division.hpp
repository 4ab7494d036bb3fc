// Which rank owns which elements of an array, where owners add up.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "comm/topology.hpp"

namespace mls {

// Parts of whole granules that differ by at most one; the last of them may end early.
constexpr std::vector<Part> parts_of_granules(std::size_t count, std::size_t granule,
                                              std::size_t ranks) {
  std::vector<Part> parts = parts_of(ceil_div(count, granule), ranks);
  for (Part& part : parts) {
    const std::size_t start = std::min(part.start * granule, count);
    const std::size_t end = std::min((part.start + part.length) * granule, count);
    part = {start, end - start};
  }
  return parts;
}

// Blocks in turn.
struct Cyclic {
  static constexpr std::size_t kBlock = 64;  // elements that follow one another

  std::size_t count;
  std::size_t ranks;

  constexpr std::size_t owner(std::size_t element) const { return element / kBlock % ranks; }
  constexpr std::size_t place(std::size_t element) const {
    return element / (kBlock * ranks) * kBlock + element % kBlock;
  }
  constexpr std::size_t element(std::size_t owner, std::size_t place) const {
    return (place / kBlock * ranks + owner) * kBlock + place % kBlock;
  }
  constexpr std::size_t share(std::size_t owner) const {
    const std::size_t rest = count % (kBlock * ranks);
    const std::size_t begun = rest - std::min(rest, owner * kBlock);
    return count / (kBlock * ranks) * kBlock + std::min(begun, kBlock);
  }
};

}  // namespace mls
