// Casts and quantisers: an array to a payload, together with error feedback in the same pass, and a
// payload to an array.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/codec.hpp"
#include "cuda/eight.hpp"
#include "cuda/feedback.hpp"
#include "cuda/team.hpp"
#include "cuda/values.hpp"

namespace mls::device {

struct Nothing {};

// What a kernel works on where the number of elements is known to the host, and where the payload
// begins. See sparse.hpp for those where only the device knows.
struct Fixed {
  static constexpr bool kOnHost = true;  // whether the host knows the length
  std::byte* payload;
  std::size_t count;

  MLS_KERNEL std::byte* place() const { return payload; }
  MLS_ONE std::size_t length() const { return count; }
};

// What is encoded, and what is kept of it: nothing, the residual, or h.
struct Source {
  const float* x;
  float* kept;
};

template <class Feedback, int kThreads>
MLS_KERNEL Eight to_send(const Source& source, const Spot<kThreads>& spot, std::size_t count,
                         Eight& kept) {
  Eight y = read_eight(source.x, spot, count);
  if constexpr (Feedback::kKind != mls::Feedback::none) {
    kept = read_eight(source.kept, spot, count);
    for (std::size_t k = 0; k < kEach; ++k) y.at[k] = Feedback::sent(y.at[k], kept.at[k]);
  }
  return y;
}

template <class Cast, class Feedback, class Where>
struct EncodeCast {
  static constexpr int kThreads = 256;
  using Shared = Nothing;
  using Format = CastFormat<Cast>;

  Source source;
  Where where;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t count = where.length();
    std::byte* const payload = where.place();
    each_spot(team, count, [&](const Spot<kThreads>& spot) {
      Eight kept;
      const Eight y = to_send<Feedback>(source, spot, count, kept);
      for (std::size_t g = 0; g < kGroups; ++g) {
        Codes<kGroup * Cast::kWidth> codes;
        for (std::size_t k = 0; k < kGroup; ++k) {
          const std::size_t i = g * kGroup + k;
          const auto code = static_cast<typename Format::Code>(Cast::narrow_one(y.at[i]));
          __builtin_memcpy(codes.at + k * Cast::kWidth, &code, Cast::kWidth);
          if constexpr (Feedback::kKind != mls::Feedback::none) {
            kept.at[i] = Feedback::kept(y.at[i], Cast::widen_one(code), kept.at[i]);
          }
        }
        const std::size_t start = spot.group(g);
        const std::size_t left = start < count ? count - start : 0;
        write_codes(codes, payload + start * Cast::kWidth, left * Cast::kWidth);
      }
      if constexpr (Feedback::kKind != mls::Feedback::none) {
        write_eight(kept, source.kept, spot, count);
      }
    });
  }
};

// A warp takes a block of 256 elements.
//
// Kind: a quantiser with a scale from the largest magnitude.
//   kBits; scale(largest) of finite blocks; code(Inverse, x, random); levels of the Inverse
template <int kWidth, bool kDraws>
struct LevelCoder : LevelKind<kWidth> {
  MLS_KERNEL static float scale(std::uint32_t largest) { return float_of(largest); }
  MLS_KERNEL static Inverse inverse(float scale) { return Inverse(Level<kWidth>::kLevels, scale); }
  MLS_KERNEL static std::uint32_t code(Inverse inverse, float x, std::uint32_t random) {
    constexpr std::uint32_t kMask = (1u << kWidth) - 1;
    const std::int8_t code =
        kDraws ? Level<kWidth>::up_or_down(inverse, x, random) : Level<kWidth>::nearest(inverse, x);
    return static_cast<std::uint32_t>(code) & kMask;
  }
  static constexpr bool kRandom = kDraws;
  static constexpr bool kZeroIsZero = true;  // a block of zeros has the scale 0 and no codes
};

struct PowerCoder : PowerKind {
  MLS_KERNEL static float scale(std::uint32_t largest) { return float_of(Power::from(largest)); }
  MLS_KERNEL static Inverse inverse(float scale) { return Inverse(1.0f, scale); }
  MLS_KERNEL static std::uint32_t code(Inverse inverse, float x, std::uint32_t random) {
    return Power::code(inverse, x, random);
  }
  static constexpr bool kRandom = true;
  static constexpr bool kZeroIsZero = false;
};

template <class Kind, class Feedback, class Where>
struct EncodeBlocks {
  static constexpr int kThreads = 32;
  using Shared = Nothing;
  static constexpr std::size_t kBytes = BlockFormat<Kind>::kBytes;
  static constexpr std::size_t kCodeBytes = kGroup * Kind::kBits / 8;  // of a group

  Source source;
  Where where;
  Draw draw;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t count = where.length();
    const std::size_t blocks = (count + kScaled - 1) / kScaled;
    for (std::size_t block = team.number(); block < blocks; block += team.teams()) {
      encode(team, block, count, where.place() + block * kBytes);
    }
  }

 private:
  template <class Team>
  MLS_KERNEL void encode(Team& team, std::size_t block, std::size_t count, std::byte* into) const {
    typename Team::template Each<Eight> sent;
    typename Team::template Each<Eight> kept;
    typename Team::template Each<std::uint32_t> magnitudes;
    team.all([&](int thread) {
      const Spot<kThreads> spot{block * kScaled, thread};
      sent[thread] = to_send<Feedback>(source, spot, count, kept[thread]);
      std::uint32_t most = 0;
      for (std::size_t k = 0; k < kEach; ++k) {
        const std::uint32_t magnitude = bits_of(sent[thread].at[k]) & 0x7fffffffu;
        most = magnitude > most ? magnitude : most;
      }
      magnitudes[thread] = most;
    });
    const std::uint32_t largest = team.largest(magnitudes);
    const bool finite = largest < kInfinityBits;
    const bool coded = finite && !(Kind::kZeroIsZero && largest == 0);
    const float scale = finite ? Kind::scale(largest) : float_of(kNanBits);
    const Inverse inverse = Kind::inverse(coded ? scale : 1.0f);
    team.all([&](int thread) {
      const Spot<kThreads> spot{block * kScaled, thread};
      if (thread == 0) write_scale(scale, into);
      if (spot[0] >= count) return;
      const Eight& y = sent[thread];
      Eight& r = kept[thread];
      for (std::size_t g = 0; g < kGroups; ++g) {
        Codes<kCodeBytes> codes;
        for (std::size_t k = 0; k < kGroup; ++k) {
          const std::size_t i = g * kGroup + k;
          std::uint32_t code = 0;
          if (coded) code = Kind::code(inverse, y.at[i], random(spot[i]));
          codes.at[k * Kind::kBits / 8] |= static_cast<std::uint8_t>(code << k * Kind::kBits % 8);
          if constexpr (Feedback::kKind != mls::Feedback::none) {
            r.at[i] = Feedback::kept(y.at[i], Kind::value(code, scale), r.at[i]);
          }
        }
        const std::size_t start = spot.group(g);
        const std::size_t left = start < count ? count - start : 0;
        const std::size_t elements = left < kGroup ? left : kGroup;
        const std::size_t place = (start - spot.base) * Kind::kBits / 8;
        write_codes(codes, into + sizeof scale + place, (elements * Kind::kBits + 7) / 8);
      }
      if constexpr (Feedback::kKind != mls::Feedback::none) {
        write_eight(r, source.kept, spot, count);
      }
    });
  }

  MLS_KERNEL std::uint32_t random(std::size_t i) const {
    if constexpr (!Kind::kRandom) return 0;
    const std::uint64_t index = draw.first + i;
    return drawn(upper_key(draw.key, index), static_cast<std::uint32_t>(index));
  }

  MLS_KERNEL static void write_scale(float scale, std::byte* into) {
    Codes<sizeof scale> bytes;
    __builtin_memcpy(bytes.at, &scale, sizeof scale);
    write_codes(bytes, into, sizeof scale);
  }
};

// A warp takes a block; thread t has the elements t, t + 32, ... so that their signs are the bits
// of words, and the 16 lanes of the mean are threads.
template <class Feedback, class Where>
struct EncodeSigns {
  static constexpr int kThreads = 32;
  using Shared = Nothing;
  static constexpr std::size_t kBytes = BlockFormat<SignKind>::kBytes;
  static constexpr int kRows = kScaled / kThreads;
  static constexpr int kLanes = 16;

  Source source;
  Where where;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t count = where.length();
    const std::size_t blocks = (count + kScaled - 1) / kScaled;
    for (std::size_t block = team.number(); block < blocks; block += team.teams()) {
      encode(team, block * kScaled, count, where.place() + block * kBytes);
    }
  }

 private:
  template <class Team>
  MLS_KERNEL void encode(Team& team, std::size_t first, std::size_t count, std::byte* into) const {
    typename Team::template Each<float> sent[kRows];
    typename Team::template Each<float> kept[kRows];
    typename Team::template Each<std::uint32_t> signs[kRows];
    team.all([&](int thread) {
      for (int row = 0; row < kRows; ++row) {
        const std::size_t i = index_of(first, row, thread);
        float y = i < count ? source.x[i] : 0.0f;
        if constexpr (Feedback::kKind != mls::Feedback::none) {
          kept[row][thread] = i < count ? source.kept[i] : 0.0f;
          if (i < count) y = Feedback::sent(y, kept[row][thread]);
        }
        sent[row][thread] = y;
        signs[row][thread] = bits_of(y) >> 31;
      }
    });
    const std::size_t elements = count - first < kScaled ? count - first : kScaled;
    const float sum = scaled_sum(team, sent);
    const bool finite = sum < float_of(kInfinityBits);
    const float mean = sum * (512.0f / static_cast<float>(elements));
    const float scale = !finite                          ? float_of(kNanBits)
                        : mean < float_of(kInfinityBits) ? mean
                                                         : float_of(kInfinityBits - 1);
    std::uint32_t words[kRows];
    for (int row = 0; row < kRows; ++row) words[row] = finite ? team.votes(signs[row]) : 0;
    team.all([&](int thread) {
      if constexpr (Feedback::kKind != mls::Feedback::none) {
        for (int row = 0; row < kRows; ++row) {
          const std::size_t i = index_of(first, row, thread);
          const float told = SignKind::value(words[row] >> thread & 1u, scale);
          if (i < count) {
            source.kept[i] = Feedback::kept(sent[row][thread], told, kept[row][thread]);
          }
        }
      }
      // thread 0 has the scale, threads 1 to 8 a word of signs each
      if (thread > kRows) return;
      std::uint32_t word = bits_of(scale);
      for (int row = 0; row < kRows; ++row) word = thread == row + 1 ? words[row] : word;
      Codes<4> bytes;
      __builtin_memcpy(bytes.at, &word, sizeof word);
      const std::size_t at = sizeof word * static_cast<std::size_t>(thread);
      const std::size_t end = sizeof scale + (elements + 7) / 8;
      if (at < end) write_codes(bytes, into + at, end - at);
    });
  }

  MLS_KERNEL static std::size_t index_of(std::size_t first, int row, int thread) {
    return first + static_cast<std::size_t>(row * kThreads + thread);
  }

  // Of |x| / 512, in 16 lanes: lane l adds up the elements l, l + 16, ..., and halves of the lanes
  // are added to one another.
  template <class Team>
  MLS_KERNEL static float scaled_sum(Team& team, typename Team::template Each<float>* x) {
    typename Team::template Each<float> lanes;
    team.all([&](int thread) {
      float sum = 0;
      for (int row = 0; row < kRows; ++row) {
        sum += scaled(x[row][thread]);
        sum += scaled(team.of(x[row], (thread + kLanes) % kThreads));
      }
      lanes[thread] = sum;  // of use in the first 16
    });
    for (int half = kLanes / 2; half > 0; half /= 2) {
      typename Team::template Each<float> sums;
      team.all([&](int thread) {
        sums[thread] = lanes[thread] + team.of(lanes, (thread + half) % kThreads);
      });
      team.all([&](int thread) { lanes[thread] = sums[thread]; });
    }
    float total = 0;
    team.all([&](int) { total = team.of(lanes, 0); });
    return total;
  }

  MLS_KERNEL static float scaled(float x) { return float_of(bits_of(x) & 0x7fffffffu) * 0x1p-9f; }
};

// What becomes of an element of the array that is decoded; see sparse.hpp for the others.
struct Put {
  static constexpr bool kReads = false;
  MLS_KERNEL void operator()(float& into, float value) const { into = value; }
};

struct AddTimes {
  static constexpr bool kReads = true;
  float factor;
  MLS_KERNEL void operator()(float& into, float value) const { into += factor * value; }
};

template <class Format, class Deliver>
struct Decode {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  const std::byte* payload;
  std::size_t count;
  Deliver how;
  float* into;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    each_spot(team, count, [&](const Spot<kThreads>& spot) {
      Eight told;
      for (std::size_t g = 0; g < kGroups; ++g) {
        const std::size_t start = spot.group(g);
        if (start + kGroup <= count) {
          Format::values(payload, start, told.at + g * kGroup);
          continue;
        }
        for (std::size_t k = 0; k < kGroup; ++k) {
          told.at[g * kGroup + k] = start + k < count ? Format::value(payload, start + k) : 0.0f;
        }
      }
      Eight values;
      if constexpr (Deliver::kReads) values = read_eight(into, spot, count);
      for (std::size_t k = 0; k < kEach; ++k) how(values.at[k], told.at[k]);
      write_eight(values, into, spot, count);
    });
  }
};

}  // namespace mls::device
