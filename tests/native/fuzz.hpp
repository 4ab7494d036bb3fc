// What fuzzers do to frames: damage them, make the checksum hold again, and open them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "base/failure.hpp"
#include "base/isa.hpp"
#include "codec/crc32c.hpp"
#include "codec/frame.hpp"
#include "harness.hpp"

namespace fuzz {

using Bytes = std::vector<std::byte>;

inline constexpr std::size_t kMost = 1 << 16;  // elements; receivers know how many to expect

// A spec that each row accepts, stochastic rounding and values in another codec included.
inline std::vector<mls::Spec> specs() {
  std::vector<mls::Spec> all;
  for (const mls::Codec* codec : mls::codecs()) {
    if (codec == nullptr) continue;
    for (const double amount : {0.0, 0.02, 2.0}) {
      for (std::size_t values = 0; values < mls::kCodecs; ++values) {
        for (const bool stochastic : {false, true}) {
          const mls::Spec spec{.codec = codec->id,
                               .amount = amount,
                               .values = static_cast<mls::CodecId>(values),
                               .stochastic = stochastic};
          if (codec->accepts(spec)) all.push_back(spec);
        }
      }
    }
  }
  return all;
}

// Announces the length that the frame has, and seals it: so checks behind the checksum are reached.
inline void reseal(Bytes& frame) {
  mls::FrameHeader header;
  if (frame.size() < sizeof header) return;
  std::memcpy(&header, frame.data(), sizeof header);
  header.length = frame.size() - sizeof header;
  header.checksum = 0;
  const std::uint32_t before = mls::crc32c(std::as_bytes(std::span(&header, 1)));
  header.checksum = mls::crc32c(std::span(frame).subspan(sizeof header), before);
  std::memcpy(frame.data(), &header, sizeof header);
}

// Opens a frame and decodes it in both ways; returns whether it was accepted. The sanitizers see
// whether any byte outside the frame and the array is touched.
inline bool receive(std::span<const std::byte> frame) {
  try {
    const mls::Frame opened = mls::open_frame(frame);
    const std::size_t count = opened.payload.count;
    if (count > kMost) return false;
    std::vector<float> values(count, 1.0f);
    std::vector<float> sum(count, 0.0f);
    opened.codec.decode(opened.payload, values.data());
    opened.codec.add(opened.payload, 1.0f, sum.data());
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(sum[i] == values[i] || std::isnan(values[i]));
    }
    return true;
  } catch (const mls::Failure& failure) {
    CHECK(failure.kind() == mls::FailureKind::corrupt);
    return false;
  }
}

}  // namespace fuzz
