// A counter-based generator: number `index` of stream `key`, without state, so that any part of an
// array can be encoded anywhere, by any instruction set or device, with the same numbers.
//
// The finaliser is lowbias32 (Wellons 2018, "Prospecting for hash functions"), applied twice with
// a half of the key each.
#pragma once

#include <cstdint>

#include "base/one.hpp"

namespace mls {

MLS_ONE constexpr std::uint32_t mixed(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

// SplitMix64 (Steele, Lea, Flood 2014): makes keys of numbers that follow one another.
MLS_ONE constexpr std::uint64_t key_of(std::uint64_t seed, std::uint64_t stream) {
  std::uint64_t x = seed + 0x9e3779b97f4a7c15u * (stream + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Streams repeat after 2^32 numbers, unless the index's upper half goes into the key.
MLS_ONE constexpr std::uint32_t random_bits(std::uint64_t key, std::uint64_t index) {
  const std::uint64_t own = key + (index >> 32) * 0x9e3779b97f4a7c15u;
  const std::uint32_t once =
      mixed(static_cast<std::uint32_t>(index) ^ static_cast<std::uint32_t>(own));
  return mixed(once + static_cast<std::uint32_t>(own >> 32));
}

}  // namespace mls
