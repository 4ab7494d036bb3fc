// The contract of every row of the codec table, on every instruction set; and damaged frames.
#include "codec/codec.hpp"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/isa.hpp"
#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

constexpr std::size_t kSizes[] = {0, 1, 2, 255, 256, 257, 1000, 4096, 10007};

// A spec that each codec accepts.
std::vector<Spec> specs() {
  std::vector<Spec> all;
  for (const Codec* codec : codecs()) {
    if (codec == nullptr) continue;
    for (const double amount : {0.0, 0.01, 2.0}) {
      const Spec spec{.codec = codec->id, .amount = amount};
      if (codec->accepts(spec)) all.push_back(spec);
    }
    if (!codec->sparse) continue;
    for (const Codec* values : codecs()) {
      if (values == nullptr) continue;
      const Spec spec{.codec = codec->id, .amount = 0.1, .values = values->id};
      if (codec->accepts(spec)) all.push_back(spec);
    }
    for (const Spec& spec : {Spec{.codec = codec->id, .amount = 0.1, .sampled = true},
                             Spec{.codec = codec->id, .amount = 0.1, .unbiased = true}}) {
      if (codec->accepts(spec)) all.push_back(spec);
    }
  }
  return all;
}

std::vector<float> numbers(std::size_t count, std::uint64_t key) {
  std::vector<float> x(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = std::ldexp(static_cast<float>(random_bits(key, i)) - 0x1p31f,
                      -31 - static_cast<int>(random_bits(key + 1, i) % 12));
  }
  return x;
}

std::vector<std::byte> encoded(const Spec& spec, std::span<const float> x, Draw draw = {7, 0}) {
  std::vector<std::byte> frame(frame_bound(spec, x.size()));
  frame.resize(encode_frame(spec, x, draw, frame));
  return frame;
}

std::vector<float> decoded(std::span<const std::byte> frame, std::size_t count) {
  const Frame opened = open_frame(frame);
  CHECK(opened.payload.count == count);
  std::vector<float> x(count, 99.0f);
  opened.codec.decode(opened.payload, x.data());
  return x;
}

TEST(every_instruction_set_makes_the_same_frames) {
  const std::string_view before = isa();
  for (const Spec& spec : specs()) {
    for (const std::size_t count : kSizes) {
      const std::vector<float> x = numbers(count, count + 1);
      std::vector<std::byte> first;
      std::vector<float> values;
      for (const std::string_view level : isa_levels()) {
        CHECK(set_isa(level));
        const std::vector<std::byte> frame = encoded(spec, x);
        if (level == "baseline") {
          first = frame;
          values = decoded(frame, count);
        }
        CHECK(frame == first);
        const std::vector<float> now = decoded(frame, count);
        CHECK(count == 0 || std::memcmp(now.data(), values.data(), 4 * count) == 0);
      }
    }
  }
  CHECK(set_isa(before));
}

TEST(adding_a_frame_adds_what_it_decodes_to) {
  for (const Spec& spec : specs()) {
    for (const std::size_t count : kSizes) {
      const std::vector<float> x = numbers(count, count + 2);
      const std::vector<std::byte> frame = encoded(spec, x);
      const std::vector<float> wanted = decoded(frame, count);
      for (const float factor : {1.0f, -1.0f}) {
        std::vector<float> sum = numbers(count, 3);
        const std::vector<float> base = sum;
        const Frame opened = open_frame(frame);
        opened.codec.add(opened.payload, factor, sum.data());
        for (std::size_t i = 0; i < count; ++i) CHECK(sum[i] == base[i] + factor * wanted[i]);
      }
    }
  }
}

TEST(pieces_make_the_payload_of_the_whole) {
  for (const Spec& spec : specs()) {
    const Codec& codec = codec_of(spec.codec);
    if (codec.granule == 0) continue;
    const std::vector<float> x = numbers(10007, 4);
    const std::vector<std::byte> whole = encoded(spec, x);
    const std::size_t cut = (4000 / codec.granule + 1) * codec.granule;
    std::vector<std::byte> pieces(frame_bound(spec, x.size()) + 64);
    std::byte* at = pieces.data();
    at += codec.encode(spec, std::span(x).first(cut), {7, 0}, at);
    at += codec.encode(spec, std::span(x).subspan(cut), {7, cut}, at);
    pieces.resize(static_cast<std::size_t>(at - pieces.data()));
    CHECK(std::ranges::equal(pieces, std::span(whole).subspan(sizeof(FrameHeader))));
  }
}

TEST(the_bound_holds_and_is_exact_where_the_row_says_so) {
  for (const Spec& spec : specs()) {
    for (const std::size_t count : kSizes) {
      const std::size_t bytes = encoded(spec, numbers(count, 5)).size();
      CHECK(bytes <= frame_bound(spec, count));
      if (codec_of(spec.codec).fixed_size && !spec.sampled)
        CHECK(bytes == frame_bound(spec, count));
    }
  }
}

TEST(a_frame_that_is_cut_or_flipped_is_corrupt) {
  for (const Spec& spec : specs()) {
    const std::vector<float> x = numbers(300, 6);
    const std::vector<std::byte> frame = encoded(spec, x);
    const auto is_corrupt = [](std::span<const std::byte> bytes) {
      try {
        open_frame(bytes);
      } catch (const Failure& failure) {
        return failure.kind() == FailureKind::corrupt;
      }
      return false;
    };
    for (std::size_t length = 0; length < frame.size(); ++length) {
      CHECK(is_corrupt(std::span(frame).first(length)));
    }
    for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
      std::vector<std::byte> flipped = frame;
      flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      CHECK(is_corrupt(flipped));
    }
  }
}

}  // namespace
