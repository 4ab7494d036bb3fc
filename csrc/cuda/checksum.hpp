// The header of a frame, with the CRC32C of what is behind it.
//
// A remainder is linear: the payload's is the sum (xor) of what each 4-byte word leaves behind,
// moved by as many zero bytes as follow it. A thread takes every 256th word of some stretches,
// which are counted from the payload's end, so that a thread's last word is as far from the end of
// every stretch; what lacks of the first one are zeros that leave nothing.
//
// Moving by 256 words is multiplying by y = x^(32 * 256). The exponent is a power of two, and the
// squares of what is 0 are 0: y obeys the polynomial that x obeys. So a word y^32 before others is
// added, whole, to those that the polynomial names, and what a thread has becomes 32 words with a
// few XORs each; only these are multiplied, with tables. Factors are constants of the compiler.
// Sources: the arithmetic of polynomials is that of zlib's crc32_combine (Adler 1995-2022); words
// that are added to later words instead of being reduced: Tuck and Kadatch, Chorba (2024).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/one.hpp"
#include "codec/frame.hpp"
#include "cuda/dense.hpp"
#include "cuda/team.hpp"

namespace mls::device {

// Remainders of polynomials of bits, the highest power in the lowest bit, as CRC32C has them. A
// constant is best the second factor: its multiples by powers are constants too.
MLS_ONE constexpr std::uint32_t times(std::uint32_t a, std::uint32_t b) {
  constexpr std::uint32_t kPolynomial = 0x82f63b78u;
  std::uint32_t product = 0;
  for (int bit = 31; bit >= 0; --bit) {
    product ^= (a >> bit & 1u) != 0 ? b : 0u;
    b = (b >> 1) ^ ((b & 1u) != 0 ? kPolynomial : 0u);
  }
  return product;
}

// What `bytes` zero bytes do to a remainder, as a factor: x to the power of 8 bytes.
MLS_ONE constexpr std::uint32_t after_zeros(std::uint64_t bytes) {
  std::uint32_t power = 0x80000000u;   // 1
  std::uint32_t square = 0x00800000u;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if (bytes & 1) power = times(power, square);
    square = times(square, square);
  }
  return power;
}

// A remainder behind which `units` times kBytes zero bytes follow.
template <std::uint64_t kBytes, int kBits>
MLS_ONE std::uint32_t moved(std::uint32_t remainder, std::uint64_t units) {
  if constexpr (kBits > 0) {
    constexpr std::uint32_t kFactor = after_zeros(kBytes);
    if ((units & 1) != 0) remainder = times(remainder, kFactor);
    if (units > 1) return moved<2 * kBytes, kBits - 1>(remainder, units >> 1);
  }
  return remainder;
}

// XORs the remainder of the payload's whole words, from 0, into *sum.
template <class Where>
struct SumWords {
  static constexpr int kThreads = 256;
  static constexpr int kRows = 32;
  static constexpr std::size_t kStretch = kRows * kThreads;  // words
  static constexpr std::uint32_t kPolynomial = 0x1edc6f41u;  // x^j is bit j; and x^32
  struct Shared {
    std::uint32_t tables[4][256];
  };

  Where where;  // length(): bytes of the payload
  std::uint32_t* sum;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& shared) const {
    const std::size_t words = where.length() / 4;
    const std::size_t stretches = (words + kStretch - 1) / kStretch;
    const std::size_t each = (stretches + team.teams() - 1) / team.teams();
    const std::size_t lowest = team.number() * each;
    if (lowest >= stretches) return;
    const std::size_t above = lowest + each < stretches ? lowest + each : stretches;
    const std::byte* const payload = where.place();
    team.all([&](int thread) {
      constexpr std::uint32_t kStride = after_zeros(4 * kThreads);
      for (int k = 0; k < 4; ++k) {
        shared.tables[k][thread] = times(static_cast<std::uint32_t>(thread) << 8 * k, kStride);
      }
    });
    typename Team::template Each<std::uint32_t> sums;
    team.all([&](int thread) {
      std::uint32_t rows[kRows] = {};
      for (std::size_t stretch = above; --stretch > lowest;) {  // from the payload's front
        take_in<false>(rows, payload, words, stretch, thread);
      }
      take_in<true>(rows, payload, words, lowest, thread);
      std::uint32_t all = 0;
#pragma unroll
      for (int row = 0; row < kRows; ++row) {
        all = shared.tables[0][all & 0xffu] ^ shared.tables[1][all >> 8 & 0xffu] ^
              shared.tables[2][all >> 16 & 0xffu] ^ shared.tables[3][all >> 24] ^ rows[row];
      }
      sums[thread] = moved<4, 9>(all, static_cast<std::uint64_t>(kThreads - thread));
    });
    const std::uint32_t all = team.xor_sum(sums);
    team.all([&](int thread) {
      if (thread == 0) Team::flip_bits(sum, moved<4 * kStretch, 32>(all, lowest));
    });
  }

 private:
  // A stretch's words of a thread take the place of those before them, which are added to them; not
  // to those of the last stretch that are within 32 rows of the end.
  template <bool kLast>
  MLS_KERNEL static void take_in(std::uint32_t (&rows)[kRows], const std::byte* payload,
                                 std::size_t words, std::size_t stretch, int thread) {
    const std::size_t end = words - stretch * kStretch;
    const std::size_t lack = end < kStretch ? kStretch - end : 0;
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const auto at = static_cast<std::size_t>(row * kThreads + thread);
      std::uint32_t word = at < lack ? 0 : load<std::uint32_t>(payload, end + at - kStretch);
#pragma unroll
      for (int j = 0; j < 32; ++j) {
        if ((kPolynomial >> j & 1u) == 0 || (kLast && row + j >= kRows)) continue;
        word ^= rows[(row + j) % kRows];
      }
      rows[row] = word;
    }
  }
};

// A header that lacks its checksum, and what it leaves behind before the payload's words.
struct Head {
  FrameHeader header;
  std::uint32_t remainder;
};

MLS_ONE inline Head head_of(FrameHeader header, std::uint64_t length) {
  header.checksum = 0;
  header.length = length;
  std::uint32_t remainder = 0xffffffffu;
  for (std::size_t i = 0; i < sizeof header / 4; ++i) {
    std::uint32_t word;
    __builtin_memcpy(&word, reinterpret_cast<const std::byte*>(&header) + 4 * i, sizeof word);
    remainder = times(remainder ^ word, after_zeros(4));
  }
  return {header, moved<4, 40>(remainder, length / 4)};
}

// Writes the header; `sum` is of the payload's words. What the host knows of it, it has found out,
// as one thread of a device takes long for it.
template <class Where>
struct WriteHeader {
  static constexpr int kThreads = 32;
  using Shared = Nothing;

  Head known;
  Where where;
  const std::uint32_t* sum;
  std::byte* frame;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      if (thread != 0) return;
      const std::size_t length = where.length();
      Head head = known;
      if constexpr (!Where::kOnHost) head = head_of(known.header, length);
      head.header.checksum =
          ~with_bytes(head.remainder ^ *sum, where.place() + length / 4 * 4, length % 4);
      __builtin_memcpy(frame, &head.header, sizeof head.header);
    });
  }

 private:
  MLS_KERNEL static std::uint32_t with_bytes(std::uint32_t remainder, const std::byte* bytes,
                                             std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      remainder = times(remainder ^ static_cast<std::uint32_t>(bytes[i]), after_zeros(1));
    }
    return remainder;
  }
};

}  // namespace mls::device
