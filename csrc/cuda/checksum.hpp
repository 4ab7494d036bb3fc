// The header of a frame, with the CRC32C of what is behind it.
//
// A remainder is linear: the payload's is the sum (xor) of what each 4-byte word leaves behind,
// moved by as many zero bytes as follow it. A thread takes every 256th word of its team's stretch,
// moves what it has by 1024 bytes from word to word, with tables, and at the end once by what is
// left. Source: the arithmetic of polynomials is that of zlib's crc32_combine (Adler 1995-2022).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/one.hpp"
#include "codec/frame.hpp"
#include "cuda/dense.hpp"
#include "cuda/team.hpp"

namespace mls::device {

// Remainders of polynomials of bits, the highest power in the lowest bit, as CRC32C has them.
MLS_KERNEL inline std::uint32_t times(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t kPolynomial = 0x82f63b78u;
  std::uint32_t product = 0;
  for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    if (a & bit) product ^= b;
    b = (b >> 1) ^ (b & 1 ? kPolynomial : 0u);
  }
  return product;
}

// What `bytes` zero bytes do to a remainder, as a factor: x to the power of 8 bytes.
MLS_KERNEL inline std::uint32_t after_zeros(std::uint64_t bytes) {
  std::uint32_t power = 0x80000000u;   // 1
  std::uint32_t square = 0x00800000u;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if (bytes & 1) power = times(power, square);
    square = times(square, square);
  }
  return power;
}

// XORs the remainder of the payload's whole words, from 0, into *sum.
template <class Where>
struct SumWords {
  static constexpr int kThreads = 256;
  static constexpr std::size_t kStretch = 64 * kThreads;  // words
  struct Shared {
    std::uint32_t tables[4][256];
  };

  Where where;  // length(): bytes of the payload
  std::uint32_t* sum;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& shared) const {
    const std::size_t words = where.length() / 4;
    if (team.number() * kStretch >= words) return;
    const std::byte* const payload = where.place();
    team.all([&](int thread) {
      const std::uint32_t stride = after_zeros(4 * kThreads);
      for (int k = 0; k < 4; ++k) {
        shared.tables[k][thread] = times(stride, static_cast<std::uint32_t>(thread) << 8 * k);
      }
    });
    typename Team::template Each<std::uint32_t> sums;
    team.all([&](int thread) { sums[thread] = 0; });
    for (std::size_t first = team.number() * kStretch; first < words;
         first += team.teams() * kStretch) {
      const std::size_t end = first + kStretch < words ? first + kStretch : words;
      team.all([&](int thread) {
        std::uint32_t remainder = 0;
        std::size_t last = words;
        for (std::size_t i = first + static_cast<std::size_t>(thread); i < end; i += kThreads) {
          const std::uint32_t moved =
              shared.tables[0][remainder & 0xffu] ^ shared.tables[1][remainder >> 8 & 0xffu] ^
              shared.tables[2][remainder >> 16 & 0xffu] ^ shared.tables[3][remainder >> 24];
          remainder = moved ^ load<std::uint32_t>(payload, i);
          last = i;
        }
        if (last < words) sums[thread] ^= times(after_zeros(4 * (words - last)), remainder);
      });
    }
    const std::uint32_t all = team.xor_sum(sums);
    team.all([&](int thread) {
      if (thread == 0) Team::flip_bits(sum, all);
    });
  }
};

// Writes the header; `sum` is of the payload's words.
template <class Where>
struct WriteHeader {
  static constexpr int kThreads = 32;
  using Shared = Nothing;

  FrameHeader header;
  Where where;
  const std::uint32_t* sum;
  std::byte* frame;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      if (thread != 0) return;
      FrameHeader told = header;
      told.checksum = 0;
      told.length = where.length();
      std::byte bytes[sizeof told];
      __builtin_memcpy(bytes, &told, sizeof told);
      std::uint32_t remainder = with_bytes(0xffffffffu, bytes, sizeof told);
      const std::size_t words = where.length() / 4;
      remainder = times(after_zeros(4 * words), remainder) ^ *sum;
      told.checksum = ~with_bytes(remainder, where.place() + 4 * words, where.length() % 4);
      __builtin_memcpy(bytes, &told, sizeof told);
      for (std::size_t i = 0; i < sizeof told; ++i) frame[i] = bytes[i];
    });
  }

 private:
  MLS_KERNEL static std::uint32_t with_bytes(std::uint32_t remainder, const std::byte* bytes,
                                             std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      remainder = times(0x00800000u, remainder ^ static_cast<std::uint32_t>(bytes[i]));
    }
    return remainder;
  }
};

}  // namespace mls::device
