// Lossless code of ascending indices whose size depends on how many they are alone, so that the
// volume of a sparse exchange has a formula.
//
// Elias (1974), Fano (1971): the low floor(log2(n / k)) bits of every index, packed; then a bitmap
// in which the high parts are unary deltas: bit (index >> low) + i is set for the i-th index. Both
// start at a byte and end with zero bits. At most 2 bits per index more than log2(n / k).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bits.hpp"

namespace mls {

// Indices are uint32, and so is their number.
inline constexpr std::size_t kMostElements = 0xffffffff;

MLS_ONE constexpr std::size_t bytes_for(std::size_t bits) { return (bits + 7) / 8; }

// The low bits of each index, and the two parts; 0 < k <= n <= kMostElements.
MLS_ONE inline unsigned low_bits(std::size_t k, std::size_t n) { return bit_width(n / k) - 1; }
MLS_ONE inline std::size_t low_bytes(std::size_t k, std::size_t n) {
  return bytes_for(k * low_bits(k, n));
}
MLS_ONE inline std::size_t bitmap_bits(std::size_t k, std::size_t n) {
  return k + ((n - 1) >> low_bits(k, n));
}

// Bytes of the code of k indices below n. k <= n <= kMostElements. Where k grows, it shrinks by at
// most one byte.
MLS_ONE inline std::size_t index_code_size(std::size_t k, std::size_t n) {
  return k == 0 ? 0 : low_bytes(k, n) + bytes_for(bitmap_bits(k, n));
}

// Writes the code of strictly ascending indices below n and returns its bytes.
std::size_t encode_indices(std::span<const std::uint32_t> indices, std::size_t n, std::byte* code);

// Whether these bytes are the code of k indices below n: the only one, as every bit is checked.
bool check_indices(std::span<const std::byte> code, std::size_t k, std::size_t n);

// Reads a checked code in order, some indices at a time.
class IndexReader {
 public:
  IndexReader(const std::byte* code, std::size_t k, std::size_t n);

  // The next indices, `most` unless fewer are left; returns how many.
  std::size_t read(std::uint32_t* indices, std::size_t most);

 private:
  std::uint64_t low_bits_of(std::size_t i) const;

  const std::byte* code_;
  std::size_t bytes_;
  std::size_t count_;
  unsigned low_;
  std::size_t done_ = 0;
  std::size_t next_;         // byte of the bitmap's next word
  std::uint64_t start_ = 0;  // position of the word's first bit, after the first word
  std::uint64_t word_ = 0;   // set bits of the current word that are still to come
};

}  // namespace mls
