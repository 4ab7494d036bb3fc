#include "codec/frame.hpp"

#include <cstring>
#include <string>

#include "base/dtype.hpp"
#include "base/failure.hpp"
#include "codec/crc32c.hpp"

namespace mls {
namespace {

[[noreturn]] void corrupt(const std::string& why) {
  throw Failure(FailureKind::corrupt, "a damaged frame: " + why);
}

bool has_row(std::size_t number) { return number < kCodecs && codecs()[number] != nullptr; }

std::uint32_t checksum_of(FrameHeader header, std::span<const std::byte> payload) {
  header.checksum = 0;
  return crc32c(payload, crc32c(std::as_bytes(std::span(&header, 1))));
}

std::string told(CodecId codec, CodecId values) {
  std::string text(codec_of(codec).name);
  if (values != CodecId::none) text.append("+").append(codec_of(values).name);
  return text;
}

}  // namespace

std::size_t frame_bound(const Spec& spec, std::size_t count) {
  return sizeof(FrameHeader) + codec_of(spec.codec).bound(spec, count);
}

std::size_t encode_frame(const Spec& spec, std::span<const float> x, Draw draw,
                         std::span<std::byte> frame) {
  std::byte* payload = frame.data() + sizeof(FrameHeader);
  const std::size_t length = codec_of(spec.codec).encode(spec, x, draw, payload);
  return seal_frame(spec, x.size(), length, frame);
}

FrameHeader header_of(const Spec& spec, std::size_t count, std::size_t length) {
  return {.magic = kFrameMagic,
          .version = kFrameVersion,
          .codec = static_cast<std::uint8_t>(spec.codec),
          .values = static_cast<std::uint8_t>(spec.values),
          .dtype = static_cast<std::uint8_t>(DType::f32),
          .flags = 0,
          .checksum = 0,
          .count = count,
          .length = length};
}

std::size_t seal_frame(const Spec& spec, std::size_t count, std::size_t length,
                       std::span<std::byte> frame) {
  FrameHeader header = header_of(spec, count, length);
  header.checksum = checksum_of(header, frame.subspan(sizeof header, length));
  std::memcpy(frame.data(), &header, sizeof header);
  return sizeof header + length;
}

Frame open_frame(std::span<const std::byte> bytes) {
  FrameHeader header;
  if (bytes.size() < sizeof header) corrupt("only " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != kFrameMagic) corrupt("it does not begin like one");
  if (header.version != kFrameVersion) {
    corrupt("version " + std::to_string(header.version) + " instead of " +
            std::to_string(kFrameVersion));
  }
  if (!has_row(header.codec) || !has_row(header.values)) corrupt("an unknown codec");
  if (header.dtype != static_cast<std::uint8_t>(DType::f32)) corrupt("an unknown dtype");
  if (header.flags != 0) corrupt("unknown flags");
  if (header.length > bytes.size() - sizeof header) {
    corrupt(std::to_string(header.length) + " bytes were announced, " +
            std::to_string(bytes.size() - sizeof header) + " came");
  }
  const std::span<const std::byte> payload = bytes.subspan(sizeof header, header.length);
  if (header.checksum != checksum_of(header, payload)) corrupt("the checksum does not hold");
  const Codec& codec = codec_of(static_cast<CodecId>(header.codec));
  const Frame frame{codec, {payload, header.count, static_cast<CodecId>(header.values)}};
  if (!codec.check(frame.payload)) {
    corrupt("its " + std::string(codec.name) + " payload cannot be decoded");
  }
  return frame;
}

Frame open_frame(std::span<const std::byte> bytes, const Spec& expected, std::size_t count) {
  const Frame frame = open_frame(bytes);
  if (frame.codec.id != expected.codec || frame.payload.values != expected.values) {
    corrupt(told(frame.codec.id, frame.payload.values) + " came instead of " +
            told(expected.codec, expected.values));
  }
  if (frame.payload.count != count) {
    corrupt("it holds " + std::to_string(frame.payload.count) + " elements instead of " +
            std::to_string(count));
  }
  return frame;
}

}  // namespace mls
