// The algorithms of all-reduce, and which one `auto` takes at which size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace mls {

enum class Algorithm : std::uint8_t {
  automatic,
  ring,
  doubling,
  halving,
  shared,
  hierarchical,
  mpi
};

inline constexpr std::array<std::string_view, 7> kAlgorithms{
    "auto", "ring", "doubling", "halving", "shared", "hierarchical", "mpi"};

constexpr std::string_view name_of(Algorithm algorithm) {
  return kAlgorithms[static_cast<std::size_t>(algorithm)];
}

constexpr std::optional<Algorithm> algorithm_named(std::string_view name) {
  for (std::size_t i = 0; i < kAlgorithms.size(); ++i) {
    if (kAlgorithms[i] == name) return static_cast<Algorithm>(i);
  }
  return std::nullopt;
}

// Up to this many bytes, this algorithm; in ascending order. Behind the last one, the last one.
struct Choice {
  std::size_t up_to;
  Algorithm algorithm;
};
using Choices = std::vector<Choice>;

inline Algorithm chosen(const Choices& choices, std::size_t bytes) {
  for (const Choice& choice : choices) {
    if (bytes <= choice.up_to) return choice.algorithm;
  }
  return choices.empty() ? Algorithm::automatic : choices.back().algorithm;
}

// Of a slice between nodes. Below this a node's share of it is a message whose time is mostly
// latency, and halving has fewer of them.
constexpr Algorithm between_nodes(std::size_t slice_bytes, std::size_t nodes) {
  constexpr std::size_t kRingFrom = 16 * 1024;
  return slice_bytes / nodes >= kRingFrom ? Algorithm::ring : Algorithm::halving;
}

}  // namespace mls
