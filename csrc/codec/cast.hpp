// Codecs that make every element a narrower float; payloads are the elements one after the other.
#pragma once

#include <array>
#include <cstddef>

#include "codec/codec.hpp"

namespace mls {

// none, fp16, bf16, fp8_e4m3, fp8_e5m2: in the order of CodecId.
inline constexpr std::size_t kCasts = 5;

struct CastKernels {
  std::array<void (*)(const float* from, std::byte* into, std::size_t count), kCasts> encode;
  std::array<void (*)(const std::byte* from, float* into, std::size_t count), kCasts> decode;
  std::array<void (*)(const std::byte* from, float factor, float* into, std::size_t count), kCasts>
      add;
};

namespace baseline {
extern const CastKernels cast_kernels;
}
namespace avx2 {
extern const CastKernels cast_kernels;
}
namespace avx512 {
extern const CastKernels cast_kernels;
}

extern const std::array<Codec, kCasts> kCastCodecs;

}  // namespace mls
