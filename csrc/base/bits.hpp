// Counting bits, on the host and on devices. Functions of <bit> are not for devices: CUDA's
// compiler takes the builtins behind some of them for the host's alone.
#pragma once

#include <bit>
#include <cstdint>

#include "base/one.hpp"

namespace mls {

// Bits up to the highest that is set.
MLS_ONE inline unsigned bit_width(std::uint64_t bits) {
#if defined(__CUDA_ARCH__)
  return 64u - static_cast<unsigned>(__clzll(static_cast<long long>(bits)));
#else
  return static_cast<unsigned>(std::bit_width(bits));
#endif
}

MLS_ONE inline unsigned count_bits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__popc(bits));
#else
  return static_cast<unsigned>(std::popcount(bits));
#endif
}

// The place of the lowest bit that is set; there is one.
MLS_ONE inline int lowest_bit(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __ffs(static_cast<int>(bits)) - 1;
#else
  return std::countr_zero(bits);
#endif
}

}  // namespace mls
