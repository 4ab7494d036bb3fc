// Damaged frames whose checksum holds are refused or decoded, for FUZZ_SECONDS (5); `make fuzz`.
#include "fuzz.hpp"

#include <chrono>
#include <cstdlib>
#include <random>

namespace {

using namespace mls;
using fuzz::Bytes;
using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t limit) { return random() % limit; }

// A number that lengths and counts are compared with, or close to one.
std::uint64_t odd_number(Random& random) {
  const std::uint64_t power = std::uint64_t{1} << below(random, 64);
  return power - 2 + below(random, 5);
}

Bytes sound_frame(const std::vector<Spec>& specs, Random& random) {
  const Spec& spec = specs[below(random, specs.size())];
  std::vector<float> x(below(random, 4) == 0 ? below(random, 4) : below(random, 900));
  std::normal_distribution<float> normal;
  for (float& value : x) value = normal(random);
  Bytes frame(frame_bound(spec, x.size()));
  frame.resize(encode_frame(spec, x, {random(), random()}, frame));
  return frame;
}

void damage(Bytes& frame, Random& random) {
  const std::size_t size = frame.size();
  const std::size_t at = below(random, size);
  const std::uint64_t number = odd_number(random);
  switch (below(random, 8)) {
    case 0:
      frame[at] ^= static_cast<std::byte>(1u << below(random, 8));
      break;
    case 1:
      frame[at] = static_cast<std::byte>(random());
      break;
    case 2:  // where k, keys and scales are
      std::memcpy(frame.data() + at, &number, std::min<std::size_t>(size - at, 4));
      break;
    case 3:
      std::memcpy(frame.data() + sizeof(FrameHeader) - 16, &number, 8);  // the count
      break;
    case 4:
      frame[5] = static_cast<std::byte>(below(random, kCodecs + 1));
      break;
    case 5:
      frame[6] = static_cast<std::byte>(below(random, kCodecs + 1));
      break;
    case 6:
      frame.resize(std::max(size - below(random, 9), sizeof(FrameHeader)));
      break;
    default:
      frame.resize(size + below(random, 9), static_cast<std::byte>(random()));
  }
}

TEST(damaged_frames_are_refused_or_decoded) {
  const char* const asked = std::getenv("FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration<double>(asked != nullptr ? std::atof(asked) : 5.0);
  const std::vector<Spec> specs = fuzz::specs();
  std::uint64_t seed = 0;
  std::size_t accepted = 0;
  const std::string_view before = isa();
  for (; std::chrono::steady_clock::now() < end; ++seed) {
    Random random(seed);  // a frame can be made again from its number
    try {
      CHECK(set_isa(isa_levels()[below(random, isa_levels().size())]));
      Bytes frame = sound_frame(specs, random);
      for (std::size_t times = 1 + below(random, 4); times > 0; --times) damage(frame, random);
      if (below(random, 8) > 0) fuzz::reseal(frame);
      frame.shrink_to_fit();  // so that what is read behind it is noticed
      accepted += fuzz::receive(frame) ? 1 : 0;
    } catch (const std::exception& error) {
      throw std::logic_error("frame " + std::to_string(seed) + ": " + error.what());
    }
  }
  CHECK(set_isa(before));
  std::printf("%llu frames, %zu of them decoded\n", static_cast<unsigned long long>(seed),
              accepted);
  CHECK(accepted > 0 && accepted < seed);
}

}  // namespace
