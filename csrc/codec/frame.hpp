// Frames: a payload behind a header that says what it is; docs/wire.md is the specification.
//
// Nothing in a frame is believed before `open_frame` has checked it, the checksum included.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/codec.hpp"

namespace mls {

static_assert(std::endian::native == std::endian::little, "frames are little endian");

struct FrameHeader {
  std::uint32_t magic;
  std::uint8_t version;
  std::uint8_t codec;      // CodecId
  std::uint8_t values;     // CodecId of the values of a sparse payload
  std::uint8_t dtype;      // of what is decoded: 2, float32
  std::uint32_t flags;     // none is defined: 0
  std::uint32_t checksum;  // CRC32C of the header with 0 here, and of the payload
  std::uint64_t count;     // elements
  std::uint64_t length;    // bytes of the payload
};
static_assert(sizeof(FrameHeader) == 32);

inline constexpr std::uint32_t kFrameMagic = 0x46534c4d;  // "MLSF"
inline constexpr std::uint8_t kFrameVersion = 1;

struct Frame {
  const Codec& codec;
  Payload payload;
};

// Bytes of a frame of `count` elements at most.
std::size_t frame_bound(const Spec& spec, std::size_t count);

// Encodes the array into a frame and returns its bytes. `frame` has room for the bound.
std::size_t encode_frame(const Spec& spec, std::span<const float> x, Draw draw,
                         std::span<std::byte> frame);

// The header of a frame, but for its checksum.
FrameHeader header_of(const Spec& spec, std::size_t count, std::size_t length);

// Writes the header before a payload of `length` bytes that is in place already; returns the bytes
// of the frame.
std::size_t seal_frame(const Spec& spec, std::size_t count, std::size_t length,
                       std::span<std::byte> frame);

// The frame that starts here. Throws Failure(corrupt) unless it is whole, sound, and one of the
// spec's codec with `count` elements.
Frame open_frame(std::span<const std::byte> bytes, const Spec& expected, std::size_t count);

// The same for any codec and count.
Frame open_frame(std::span<const std::byte> bytes);

}  // namespace mls
