// Eight neighbours at a time, which is what a thread moves: 32 bytes of float32, in two accesses of
// 16 bytes where the address allows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/one.hpp"

namespace mls::device {

inline constexpr std::size_t kEach = 8;
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

// Elements from `start`, zeros from `count` on.
MLS_KERNEL inline Eight read_eight(const float* x, std::size_t start, std::size_t count) {
  Eight eight;
  if (start + kEach <= count && aligned(x + start, 16)) {
    copy16(eight.at, x + start);
    copy16(eight.at + 4, x + start + 4);
    return eight;
  }
  for (std::size_t k = 0; k < kEach; ++k) eight.at[k] = start + k < count ? x[start + k] : 0.0f;
  return eight;
}

MLS_KERNEL inline void write_eight(const Eight& eight, float* x, std::size_t start,
                                   std::size_t count) {
  if (start + kEach <= count && aligned(x + start, 16)) {
    copy16(x + start, eight.at);
    copy16(x + start + 4, eight.at + 4);
    return;
  }
  for (std::size_t k = 0; k < kEach; ++k) {
    if (start + k < count) x[start + k] = eight.at[k];
  }
}

// The bytes of a thread's codes.
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
  }
  for (std::size_t k = 0; k < kBytes; ++k) {
    if (k < wanted) into[k] = static_cast<std::byte>(codes.at[k]);
  }
}

}  // namespace mls::device
