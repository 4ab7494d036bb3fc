// The device's kernels, run on the host: frames and residuals are those of the codecs, byte for
// byte.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "codec/sparse.hpp"
#include "cuda/codecs.hpp"
#include "cuda/host.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

constexpr std::size_t kSizes[] = {0, 1, 2, 7, 8, 9, 255, 256, 257, 2047, 2049, 10007, 40000};

std::vector<Spec> specs() {
  std::vector<Spec> all;
  for (const Codec* codec : codecs()) {
    if (codec == nullptr || codec->id == CodecId::power_sgd) continue;
    for (const double amount : {0.0, 0.01, 0.6}) {
      for (const bool option : {false, true}) {
        const Spec spec{.codec = codec->id, .amount = amount, .stochastic = option};
        if (codec->accepts(spec)) all.push_back(spec);
      }
    }
    if (!codec->sparse) continue;
    for (const Codec* values : codecs()) {
      const Spec spec{.codec = codec->id, .amount = 0.05, .values = values->id};
      if (codec->accepts(spec)) all.push_back(spec);
    }
    for (const Spec& spec : {Spec{.codec = codec->id, .amount = 0.1, .sampled = true},
                             Spec{.codec = codec->id, .amount = 0.001, .sampled = true},
                             Spec{.codec = codec->id, .amount = 0.1, .unbiased = true}}) {
      if (codec->accepts(spec)) all.push_back(spec);
    }
  }
  return all;
}

enum class Kind { numbers, ties, zeros, huge, strange };

std::vector<float> array_of(Kind kind, std::size_t count, std::uint64_t key) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = random_bits(key, i);
    switch (kind) {
      case Kind::numbers:
        x[i] = std::ldexp(static_cast<float>(bits) - 0x1p31f,
                          -31 - static_cast<int>(random_bits(key + 1, i) % 12));
        break;
      case Kind::ties:
        x[i] = bits % 3 == 0 ? -0.25f : 0.25f;
        break;
      case Kind::zeros:
        x[i] = bits % 2 == 0 ? 0.0f : -0.0f;
        break;
      case Kind::huge:
        x[i] = std::ldexp(bits % 2 == 0 ? 1.5f : -1.75f, static_cast<int>(bits % 270) - 140);
        break;
      case Kind::strange:
        x[i] = bits % 500 == 1   ? std::numeric_limits<float>::infinity()
               : bits % 500 == 2 ? std::numeric_limits<float>::quiet_NaN()
                                 : std::ldexp(1.0f, static_cast<int>(bits % 300) - 150);
        break;
    }
  }
  return x;
}

bool same_number(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), same_number);
}

// What the host makes of it.
struct Expected {
  std::vector<std::byte> frame;
  std::vector<float> kept;
};

Expected on_host(const Spec& spec, const std::vector<float>& x, Feedback feedback,
                 std::vector<float> kept, Draw draw) {
  std::vector<float> y = x;
  if (feedback == Feedback::classic) {
    for (std::size_t i = 0; i < x.size(); ++i) kept[i] += x[i];
    y = kept;
  } else if (feedback == Feedback::ef21) {
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] - kept[i];
  }
  std::vector<std::byte> frame(frame_bound(spec, x.size()));
  frame.resize(encode_frame(spec, y, draw, frame));
  const Frame opened = open_frame(frame);
  if (feedback == Feedback::classic) opened.codec.add(opened.payload, -1, kept.data());
  if (feedback == Feedback::ef21) opened.codec.add(opened.payload, 1, kept.data());
  return {frame, kept};
}

// A frame starts at a multiple of 16 bytes.
struct alignas(16) Line {
  std::byte bytes[16];
};

class DeviceFrame {
 public:
  explicit DeviceFrame(std::size_t bytes)
      : lines_((bytes + 3) / 4 * 4 / 16 + 1), room_((bytes + 3) / 4 * 4), bytes_(room_) {
    std::memset(lines_.data(), 0x3c, lines_.size() * 16);
  }
  std::byte* data() { return lines_.data()->bytes; }
  std::size_t length() {
    FrameHeader header;
    std::memcpy(&header, data(), sizeof header);
    return sizeof header + header.length;
  }
  bool is(const std::vector<std::byte>& expected) {
    return length() == expected.size() && std::memcmp(data(), expected.data(), length()) == 0;
  }
  // Nothing was written behind it.
  bool whole() {
    for (std::size_t i = room_; i < lines_.size() * 16; ++i) {
      if (data()[i] != std::byte{0x3c}) return false;
    }
    return true;
  }

 private:
  std::vector<Line> lines_;
  std::size_t room_;
  std::size_t bytes_;
};

void check(const Spec& spec, const std::vector<float>& x, Feedback feedback, std::size_t shift) {
  const std::size_t n = x.size();
  const Draw draw{key_of(3, n), 1000};
  const std::vector<float> before =
      feedback == Feedback::none ? std::vector<float>() : array_of(Kind::numbers, n, 77);
  const Expected expected = on_host(spec, x, feedback, before, draw);

  device::HostMachine machine;
  device::Codecs codecs(machine);
  // arrays need not be aligned
  std::vector<float> moved(n + shift);
  std::ranges::copy(x, moved.begin() + static_cast<std::ptrdiff_t>(shift));
  std::vector<float> kept(before.size() + shift);
  std::ranges::copy(before, kept.begin() + static_cast<std::ptrdiff_t>(shift));
  DeviceFrame frame(frame_bound(spec, n));
  codecs.encode(spec, {moved.data() + shift, n, feedback, kept.data() + shift}, draw, frame.data());
  CHECK(frame.is(expected.frame));
  CHECK(frame.whole());
  kept.erase(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(shift));
  CHECK(same(kept, expected.kept));

  const Frame opened = open_frame(expected.frame);
  std::vector<float> wanted(n, 3.0f);
  std::vector<float> got(n, 3.0f);
  opened.codec.add(opened.payload, -0.5f, wanted.data());
  const std::span<const std::byte> encoded(frame.data(), frame.length());
  codecs.add(spec, n, {&encoded, 1}, -0.5f, got.data());
  CHECK(same(got, wanted));
  if (opened.codec.sparse) {  // what is added anew at zeros tells the elements that it names
    std::vector<float> named(n, 1.0f);
    const auto value = [](float number) { return std::isnan(number) ? 2.0f : number; };
    codecs.clear(spec, n, frame.data(), frame.length(), named.data());
    std::vector<float> decoded(n);
    opened.codec.decode(opened.payload, decoded.data());
    for (std::size_t i = 0; i < n; ++i) CHECK(named[i] == 0 || value(decoded[i]) == 0);
    CHECK(static_cast<std::size_t>(std::ranges::count(named, 0.0f)) ==
          sparse_count(opened.payload));
  }
  opened.codec.decode(opened.payload, wanted.data());
  codecs.decode(spec, n, frame.data(), frame_bound(spec, n), got.data());
  CHECK(same(got, wanted));
}

TEST(device_frames_are_those_of_the_host) {
  for (const Spec& spec : specs()) {
    for (const std::size_t size : kSizes) {
      for (const Feedback feedback : {Feedback::none, Feedback::classic, Feedback::ef21}) {
        check(spec, array_of(Kind::numbers, size, size + 1), feedback, size % 3);
      }
    }
  }
}

// Stretches of 8192 words, several to a team.
TEST(device_checksums_of_long_payloads) {
  for (const std::size_t size : {8191, 8192, 8193, 73727, 73728, 73729, 200001}) {
    check({.codec = CodecId::none}, array_of(Kind::numbers, size, 4), Feedback::none, 0);
  }
}

TEST(device_frames_of_unusual_numbers) {
  for (const Spec& spec : specs()) {
    for (const Kind kind : {Kind::ties, Kind::zeros, Kind::huge, Kind::strange}) {
      for (const Feedback feedback : {Feedback::none, Feedback::classic}) {
        check(spec, array_of(kind, 20001, 5), feedback, 0);
      }
    }
  }
}

TEST(device_draws_across_the_end_of_a_stream) {
  for (const CodecId codec : {CodecId::ternary, CodecId::natural}) {
    const std::vector<float> x = array_of(Kind::numbers, 1000, 1);
    const Draw draw{9, (std::uint64_t{1} << 32) - 300};
    const Expected expected = on_host({.codec = codec}, x, Feedback::none, {}, draw);
    device::HostMachine machine;
    DeviceFrame frame(frame_bound({.codec = codec}, x.size()));
    device::Codecs(machine).encode({.codec = codec}, {x.data(), x.size()}, draw, frame.data());
    CHECK(frame.is(expected.frame));
  }
}

// A sample whose largest elements are elsewhere: too few pass, or more than there is room for.
TEST(device_selects_where_the_sample_misleads) {
  for (const bool sampled : {false, true}) {
    const Spec spec{.codec = CodecId::top_k, .amount = 0.02, .sampled = sampled};
    std::vector<float> x = array_of(Kind::numbers, 200000, 8);
    const Draw draw{key_of(3, x.size()), 1000};
    const Sample sample = sample_for(x.size(), k_of(spec, x.size()), sampled, draw);
    CHECK(sample.rank > 0);
    std::vector<bool> seen(x.size());
    for (std::size_t j = 0; j < sample.size; ++j) {
      seen[random_bits(sample.key, j) * std::uint64_t{x.size()} >> 32] = true;
    }
    for (const bool above : {false, true}) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = seen[i] == above ? 1.0f : 0.001f * x[i];
      check(spec, x, Feedback::classic, 0);
    }
  }
}

// More than are counted at a time, and of different lengths.
TEST(device_adds_frames_one_after_the_other) {
  const std::size_t n = 5000;
  for (const Spec& spec : specs()) {
    std::vector<DeviceFrame> frames;
    std::vector<std::span<const std::byte>> encoded;
    std::vector<float> wanted = array_of(Kind::numbers, n, 1);
    std::vector<float> got = wanted;
    for (std::size_t i = 0; i < device::kMostFrames + 3; ++i) {
      const Kind kind = i % 7 == 0 ? Kind::zeros : Kind::numbers;
      const Expected one = on_host(spec, array_of(kind, n, i + 2), Feedback::none, {}, {i, 0});
      const Frame opened = open_frame(one.frame);
      opened.codec.add(opened.payload, 0.5f, wanted.data());
      frames.emplace_back(frame_bound(spec, n));
      std::memcpy(frames.back().data(), one.frame.data(), one.frame.size());
      encoded.emplace_back(frames.back().data(), one.frame.size());
    }
    device::HostMachine machine;
    device::Codecs(machine).add(spec, n, encoded, 0.5f, got.data());
    CHECK(same(got, wanted));
  }
}

// Damaged payloads write nothing outside of the array.
TEST(device_ignores_what_is_beyond_the_array) {
  for (const Spec& spec : specs()) {
    const std::size_t n = 3000;
    const std::vector<float> x = array_of(Kind::numbers, n, 2);
    const Expected expected = on_host(spec, x, Feedback::none, {}, {});
    for (std::uint64_t damage = 0; damage < 40; ++damage) {
      DeviceFrame frame(frame_bound(spec, n));
      std::memcpy(frame.data(), expected.frame.data(), expected.frame.size());
      for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t length = expected.frame.size() - sizeof(FrameHeader);
        const std::size_t reach = damage % 2 == 0 ? std::min<std::size_t>(length, 24) : length;
        const std::size_t at = random_bits(damage, i) % reach;
        frame.data()[sizeof(FrameHeader) + at] ^=
            static_cast<std::byte>(random_bits(damage, i + 9));
      }
      device::HostMachine machine;
      std::vector<float> into(n);
      const std::span<const std::byte> damaged(frame.data(), expected.frame.size());
      device::Codecs(machine).add(spec, n, {&damaged, 1}, 1, into.data());
    }
  }
}

}  // namespace
