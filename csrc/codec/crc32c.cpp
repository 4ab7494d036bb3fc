#include "codec/crc32c.hpp"

#include <array>
#include <cstring>

#include "base/isa.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace mls {
namespace {

using Table = std::array<std::uint32_t, 256>;

constexpr std::uint32_t kPolynomial = 0x82f63b78u;  // bits reversed

// Entry [k][b]: the remainder of byte b with k zero bytes behind it.
constexpr std::array<Table, 8> make_tables() {
  std::array<Table, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? kPolynomial : 0u);
    tables[0][byte] = value;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

std::uint64_t word_at(const std::byte* bytes) {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

std::uint32_t with_byte(std::uint32_t value, std::byte byte) {
  return (value >> 8) ^ kTables[0][(value ^ static_cast<std::uint32_t>(byte)) & 0xff];
}

// Eight bytes at a time: "slicing" of Kounavis and Berry 2005, "A systematic approach to building
// high performance, software-based, CRC generators".
std::uint32_t in_software(std::uint32_t value, std::span<const std::byte> bytes) {
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    const std::uint64_t word = word_at(bytes.data()) ^ value;
    value = 0;
    for (std::size_t k = 0; k < 8; ++k) value ^= kTables[7 - k][word >> 8 * k & 0xff];
  }
  for (const std::byte byte : bytes) value = with_byte(value, byte);
  return value;
}

#if defined(__x86_64__)

// The instruction takes three cycles but can start every cycle: three stretches of a block are
// taken side by side, and joined by what so many zero bytes do to a remainder.
constexpr std::size_t kStretch = 2048;  // bytes

// x -> x times a matrix over bits, one table for each byte of x.
using Shift = std::array<Table, 4>;

constexpr Shift make_shift(std::size_t zero_bytes) {
  Shift shift{};
  for (std::size_t bit = 0; bit < 32; ++bit) {
    std::uint32_t value = 1u << bit;
    for (std::size_t i = 0; i < zero_bytes; ++i) {
      value = (value >> 8) ^ kTables[0][value & 0xff];
    }
    shift[bit / 8][std::size_t{1} << bit % 8] = value;
  }
  for (Table& table : shift) {
    for (std::size_t byte = 1; byte < 256; ++byte) {
      const std::size_t lowest = byte & (~byte + 1);
      table[byte] = table[lowest] ^ table[byte ^ lowest];
    }
  }
  return shift;
}

std::uint32_t shifted(const Shift& by, std::uint32_t value) {
  return by[0][value & 0xff] ^ by[1][value >> 8 & 0xff] ^ by[2][value >> 16 & 0xff] ^
         by[3][value >> 24];
}

__attribute__((target("sse4.2"))) std::uint32_t in_hardware(std::uint32_t value,
                                                            std::span<const std::byte> bytes) {
  static const Shift over_a_stretch = make_shift(kStretch);
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= 3 * kStretch; left -= 3 * kStretch) {
    std::uint64_t first = value;
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (std::size_t i = 0; i < kStretch; i += 8) {
      first = _mm_crc32_u64(first, word_at(at + i));
      second = _mm_crc32_u64(second, word_at(at + kStretch + i));
      third = _mm_crc32_u64(third, word_at(at + 2 * kStretch + i));
    }
    value = shifted(over_a_stretch, static_cast<std::uint32_t>(first));
    value = shifted(over_a_stretch, value ^ static_cast<std::uint32_t>(second));
    value ^= static_cast<std::uint32_t>(third);
    at += 3 * kStretch;
  }
  std::uint64_t wide = value;
  for (; left >= 8; left -= 8, at += 8) wide = _mm_crc32_u64(wide, word_at(at));
  value = static_cast<std::uint32_t>(wide);
  for (; left > 0; --left, ++at) value = _mm_crc32_u8(value, static_cast<std::uint8_t>(*at));
  return value;
}

#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
#if defined(__x86_64__)
  // what has AVX2 has SSE4.2; a test that asks for the baseline gets the software
  if (isa_index() > 0) return ~in_hardware(~before, bytes);
#endif
  return ~in_software(~before, bytes);
}

}  // namespace mls
