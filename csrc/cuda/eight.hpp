// What a thread moves at a time: two groups of four neighbours of float32, 16 bytes in one access
// where the address allows. The threads of a team take the groups of one half of their stretch side
// by side, and then those of the other, so that each access of a warp is of whole lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/one.hpp"

namespace mls::device {

inline constexpr std::size_t kEach = 8;
inline constexpr std::size_t kGroup = 4;
inline constexpr std::size_t kGroups = kEach / kGroup;
inline constexpr std::size_t kTile = 256 * kEach;  // elements of a team of 256

MLS_KERNEL inline bool aligned(const void* address, std::size_t bytes) {
  return (reinterpret_cast<std::uintptr_t>(address) & (bytes - 1)) == 0;
}

#if defined(__CUDACC__)
MLS_KERNEL inline void copy16(void* into, const void* from) {
  *static_cast<uint4*>(into) = *static_cast<const uint4*>(from);
}
MLS_KERNEL inline void copy8(void* into, const void* from) {
  *static_cast<uint2*>(into) = *static_cast<const uint2*>(from);
}
#else
inline void copy16(void* into, const void* from) { __builtin_memcpy(into, from, 16); }
inline void copy8(void* into, const void* from) { __builtin_memcpy(into, from, 8); }
#endif

struct alignas(16) Eight {
  float at[kEach];
};

// Where the elements of a thread are, in the stretch of its team that begins at `base`.
template <int kThreads>
struct Spot {
  std::size_t base;
  int thread;

  MLS_KERNEL std::size_t group(std::size_t g) const {
    return base + kGroup * (g * kThreads + static_cast<std::size_t>(thread));
  }
  MLS_KERNEL std::size_t operator[](std::size_t k) const { return group(k / kGroup) + k % kGroup; }
};

// Runs body(spot) for all elements of an array. The last elements of a spot may be beyond its end.
template <class Team, class Body>
MLS_KERNEL void each_spot(Team& team, std::size_t count, Body body) {
  constexpr std::size_t kStretch = Team::kThreads * kEach;
  for (std::size_t base = team.number() * kStretch; base < count; base += team.teams() * kStretch) {
    team.all([&](int thread) {
      const Spot<Team::kThreads> spot{base, thread};
      if (spot[0] < count) body(spot);
    });
  }
}

// Zeros from `count` on.
template <int kThreads>
MLS_KERNEL Eight read_eight(const float* x, const Spot<kThreads>& spot, std::size_t count) {
  Eight eight;
  for (std::size_t g = 0; g < kGroups; ++g) {
    const std::size_t start = spot.group(g);
    if (start + kGroup <= count && aligned(x + start, 16)) {
      copy16(eight.at + g * kGroup, x + start);
      continue;
    }
    for (std::size_t k = 0; k < kGroup; ++k) {
      eight.at[g * kGroup + k] = start + k < count ? x[start + k] : 0.0f;
    }
  }
  return eight;
}

template <int kThreads>
MLS_KERNEL void write_eight(const Eight& eight, float* x, const Spot<kThreads>& spot,
                            std::size_t count) {
  for (std::size_t g = 0; g < kGroups; ++g) {
    const std::size_t start = spot.group(g);
    if (start + kGroup <= count && aligned(x + start, 16)) {
      copy16(x + start, eight.at + g * kGroup);
      continue;
    }
    for (std::size_t k = 0; k < kGroup; ++k) {
      if (start + k < count) x[start + k] = eight.at[g * kGroup + k];
    }
  }
}

// The bytes of some codes.
template <std::size_t kBytes>
struct alignas(kBytes % 16 == 0  ? 16
               : kBytes % 8 == 0 ? 8
                                 : 4) Codes {
  std::uint8_t at[kBytes] = {};
};

// The first `wanted` of them.
template <std::size_t kBytes>
MLS_KERNEL void write_codes(const Codes<kBytes>& codes, std::byte* into, std::size_t wanted) {
  if (wanted >= kBytes) {
    if constexpr (kBytes % 16 == 0) {
      if (aligned(into, 16)) {
        for (std::size_t k = 0; k < kBytes; k += 16) copy16(into + k, codes.at + k);
        return;
      }
    }
    if constexpr (kBytes % 8 == 0) {
      if (aligned(into, 8)) {
        for (std::size_t k = 0; k < kBytes; k += 8) copy8(into + k, codes.at + k);
        return;
      }
    }
    if constexpr (kBytes % 4 == 0) {
      if (aligned(into, 4)) {
        for (std::size_t k = 0; k < kBytes; k += 4) {
          std::uint32_t word;
          __builtin_memcpy(&word, codes.at + k, 4);
          *reinterpret_cast<std::uint32_t*>(into + k) = word;
        }
        return;
      }
    }
    if constexpr (kBytes == 2) {
      if (aligned(into, 2)) {
        std::uint16_t both;
        __builtin_memcpy(&both, codes.at, 2);
        *reinterpret_cast<std::uint16_t*>(into) = both;
        return;
      }
    }
  }
  for (std::size_t k = 0; k < kBytes; ++k) {
    if (k < wanted) into[k] = static_cast<std::byte>(codes.at[k]);
  }
}

}  // namespace mls::device
