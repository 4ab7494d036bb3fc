// Codecs that keep a few bits of every element, beside one scale for each block of 256 elements.
//
// Payload: for each block the scale (float32), then the elements' codes, the first one in the
// lowest bits; the last block has as many elements as are left, in whole bytes. A block with an
// element that is not finite has the scale NaN and decodes to NaN; others have a finite scale.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "codec/codec.hpp"

namespace mls {

// int8, int4, int2, sign, ternary, natural: in the order of CodecId.
inline constexpr std::size_t kQuantisers = 6;

inline constexpr std::size_t kScaleBlock = 256;  // elements

struct QuantiseKernels {
  // draw: of the first element; null where it rounds to nearest
  std::array<void (*)(const float* from, const Draw* draw, std::byte* into, std::size_t count),
             kQuantisers>
      encode;
  std::array<void (*)(const std::byte* from, float* into, std::size_t count), kQuantisers> decode;
  std::array<void (*)(const std::byte* from, float factor, float* into, std::size_t count),
             kQuantisers>
      add;
};

namespace baseline {
extern const QuantiseKernels quantise_kernels;
}
namespace avx2 {
extern const QuantiseKernels quantise_kernels;
}
namespace avx512 {
extern const QuantiseKernels quantise_kernels;
}

extern const std::array<Codec, kQuantisers> kQuantiseCodecs;

}  // namespace mls
