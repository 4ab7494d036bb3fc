// One element of a dense payload, read and written on its own; for casts and quantisers alike.
//
// A Format knows its width in bits and how many elements share a scale: kBlock, 1 for casts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/one.hpp"
#include "codec/codec.hpp"
#include "cuda/eight.hpp"

#define MLS_F16C 0
#include "base/half.inc"
#include "codec/float8.inc"
#include "codec/level.inc"

namespace mls::device {

inline constexpr std::size_t kScaled = 256;  // elements beside one scale

// Payloads of sparse codecs start anywhere.
template <class T>
MLS_KERNEL T unaligned(const std::byte* from) {
  if ((reinterpret_cast<std::uintptr_t>(from) & (sizeof(T) - 1)) == 0) return load<T>(from, 0);
  T value = 0;
  for (unsigned k = 0; k < sizeof(T); ++k) {
    value = static_cast<T>(value | static_cast<T>(static_cast<T>(from[k]) << 8 * k));
  }
  return value;
}

template <class Cast>
struct CastFormat {
  using One = Cast;
  using Code =
      std::conditional_t<Cast::kWidth == 1, std::uint8_t,
                         std::conditional_t<Cast::kWidth == 2, std::uint16_t, std::uint32_t>>;

  MLS_ONE static constexpr std::size_t bytes(std::size_t count) { return count * Cast::kWidth; }

  MLS_KERNEL static float value(const std::byte* payload, std::size_t i) {
    return Cast::widen_one(unaligned<Code>(payload + i * Cast::kWidth));
  }

  // Four neighbours, the first at a multiple of four, of a payload that begins at one of 16 bytes.
  MLS_KERNEL static void values(const std::byte* payload, std::size_t i, float* into) {
    const std::byte* const from = payload + i * Cast::kWidth;
    Codes<kGroup * Cast::kWidth> codes;
    if constexpr (Cast::kWidth == 4) {
      copy16(codes.at, from);
    } else if constexpr (Cast::kWidth == 2) {
      copy8(codes.at, from);
    } else {
      const auto word = load<std::uint32_t>(from, 0);
      __builtin_memcpy(codes.at, &word, sizeof word);
    }
    for (std::size_t k = 0; k < kGroup; ++k) {
      Code code;
      __builtin_memcpy(&code, codes.at + k * Cast::kWidth, Cast::kWidth);
      into[k] = Cast::widen_one(code);
    }
  }
};

struct Float32 {
  static constexpr std::size_t kWidth = 4;
  MLS_KERNEL static float widen_one(std::uint32_t bits) { return float_of(bits); }
  MLS_KERNEL static std::uint32_t narrow_one(float value) { return bits_of(value); }
};

// The code of element i of a block, behind its scale.
template <std::size_t kBits>
MLS_KERNEL std::uint32_t code_at(const std::byte* codes, std::size_t i) {
  const auto byte = load<std::uint8_t>(codes, i * kBits / 8);
  return static_cast<std::uint32_t>(byte) >> i * kBits % 8 & ((1u << kBits) - 1);
}

// One of: static constexpr kBits; value(code, scale).
struct SignKind {
  static constexpr std::size_t kBits = 1;
  MLS_KERNEL static float value(std::uint32_t code, float scale) {
    return float_of(bits_of(scale) ^ code << 31);
  }
};

struct PowerKind {
  static constexpr std::size_t kBits = 8;
  MLS_KERNEL static float value(std::uint32_t code, float scale) {
    return Power::value(code, scale);
  }
};

template <int kWidth>
struct LevelKind {
  static constexpr std::size_t kBits = kWidth;
  MLS_KERNEL static float value(std::uint32_t code, float scale) {
    constexpr std::uint32_t kSign = 1u << (kWidth - 1);
    return Level<kWidth>::value(static_cast<std::int8_t>((code ^ kSign) - kSign), scale);
  }
};

template <class Kind>
struct BlockFormat {
  static constexpr std::size_t kBytes = sizeof(float) + kScaled * Kind::kBits / 8;

  MLS_ONE static constexpr std::size_t bytes(std::size_t count) {
    const std::size_t rest = count % kScaled;
    return count / kScaled * kBytes + (rest > 0 ? sizeof(float) + (rest * Kind::kBits + 7) / 8 : 0);
  }

  MLS_KERNEL static float value(const std::byte* payload, std::size_t i) {
    const std::byte* block = payload + i / kScaled * kBytes;
    return Kind::value(code_at<Kind::kBits>(block + sizeof(float), i % kScaled),
                       float_of(unaligned<std::uint32_t>(block)));
  }

  // Four neighbours, the first at a multiple of four: their codes are whole bytes, or half a byte.
  MLS_KERNEL static void values(const std::byte* payload, std::size_t i, float* into) {
    using Word =
        std::conditional_t<Kind::kBits == 8, std::uint32_t,
                           std::conditional_t<Kind::kBits == 4, std::uint16_t, std::uint8_t>>;
    constexpr std::uint32_t kMask = (1u << Kind::kBits) - 1;
    const std::byte* const block = payload + i / kScaled * kBytes;
    const float scale = float_of(unaligned<std::uint32_t>(block));
    const std::size_t bit = i % kScaled * Kind::kBits;
    const std::uint32_t codes =
        std::uint32_t{unaligned<Word>(block + sizeof(float) + bit / 8)} >> bit % 8;
    for (std::size_t k = 0; k < kGroup; ++k) {
      into[k] = Kind::value(codes >> k * Kind::kBits & kMask, scale);
    }
  }
};

// Calls use(Format{}) for the codec of values: any that is neither sparse nor of matrices.
template <class Use>
void with_format(CodecId codec, Use use) {
  switch (codec) {
    case CodecId::fp16:
      return use(CastFormat<Float16>{});
    case CodecId::bf16:
      return use(CastFormat<BFloat16>{});
    case CodecId::fp8_e4m3:
      return use(CastFormat<Float8E4M3>{});
    case CodecId::fp8_e5m2:
      return use(CastFormat<Float8E5M2>{});
    case CodecId::int8:
      return use(BlockFormat<LevelKind<8>>{});
    case CodecId::int4:
      return use(BlockFormat<LevelKind<4>>{});
    case CodecId::int2:
    case CodecId::ternary:
      return use(BlockFormat<LevelKind<2>>{});
    case CodecId::sign:
      return use(BlockFormat<SignKind>{});
    case CodecId::natural:
      return use(BlockFormat<PowerKind>{});
    default:
      return use(CastFormat<Float32>{});
  }
}

}  // namespace mls::device
