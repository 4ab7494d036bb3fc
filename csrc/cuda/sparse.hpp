// Payloads of selected elements: indices and values to bytes, and bytes added to an array.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "codec/index_code.hpp"
#include "codec/random.hpp"
#include "codec/sparse.hpp"
#include "cuda/dense.hpp"
#include "cuda/selected.hpp"

namespace mls::device {

// The elements that are encoded: how many is known to the host, or in *progress.
struct Selected {
  const std::uint32_t* indices;
  const float* values;
  std::uint32_t fixed;
  const Progress* progress;

  MLS_KERNEL std::size_t count() const { return progress == nullptr ? fixed : progress->count(); }
};

// The values of a payload whose indices are coded, and of one whose indices are drawn.
struct BehindCode {
  std::byte* payload;
  Selected selected;
  std::size_t elements;

  MLS_KERNEL std::size_t length() const { return selected.count(); }
  MLS_KERNEL std::byte* place() const {
    return payload + sizeof(std::uint32_t) + index_code_size(length(), elements);
  }
};

// All bytes of a payload, for its checksum.
template <class Format>
struct AllOf {
  static constexpr bool kOnHost = false;
  BehindCode values;

  MLS_KERNEL std::byte* place() const { return values.payload; }
  MLS_KERNEL std::size_t length() const {
    return static_cast<std::size_t>(values.place() - values.payload) +
           Format::bytes(values.length());
  }
};

// Sets up to 32 bits behind `base`, in memory that was zero.
template <class Team>
MLS_KERNEL void put(std::byte* base, std::uint64_t bit, std::uint32_t bits) {
  const auto address = reinterpret_cast<std::uintptr_t>(base + bit / 8);
  const std::uintptr_t within = address % 4;
  const std::uint64_t moved = std::uint64_t{bits} << (8 * within + bit % 8);
  std::byte* const word = base + bit / 8 - within;
  if (static_cast<std::uint32_t>(moved) != 0) {
    Team::put_bits(word, static_cast<std::uint32_t>(moved));
  }
  if (moved >> 32 != 0) Team::put_bits(word + 4, static_cast<std::uint32_t>(moved >> 32));
}

// The number of elements and the code of their indices; all bytes of it were zero.
struct PutIndices {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  std::byte* payload;
  Selected selected;
  std::size_t elements;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t k = selected.count();
    if (k == 0) return;
    const unsigned low = low_bits(k, elements);
    const std::uint32_t mask = (std::uint32_t{1} << low) - 1;
    std::byte* const lows = payload + sizeof(std::uint32_t);
    std::byte* const bitmap = lows + low_bytes(k, elements);
    team.all([&](int thread) {
      const std::size_t first = team.number() * kThreads + static_cast<std::size_t>(thread);
      if (first == 0) put<Team>(payload, 0, static_cast<std::uint32_t>(k));
      for (std::size_t i = first; i < k; i += team.teams() * kThreads) {
        const std::uint32_t index = selected.indices[i];
        put<Team>(lows, i * low, index & mask);
        put<Team>(bitmap, (index >> low) + i, 1);
      }
    });
  }
};

// What is kept of the selected elements, after what was told of them.
template <class Format, class Feedback, class Where>
struct Settle {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  Selected selected;
  Where where;
  float* kept;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t k = selected.count();
    const std::byte* const payload = where.place();
    team.all([&](int thread) {
      for (std::size_t i = team.number() * kThreads + static_cast<std::size_t>(thread); i < k;
           i += team.teams() * kThreads) {
        float& own = kept[selected.indices[i]];
        // classic: it holds what was to be sent
        own = Feedback::kept(own, Format::value(payload, i), own);
      }
    });
  }
};

// random_k --------------------------------------------------------------------------------------

MLS_KERNEL inline std::uint32_t drawn_index(std::uint64_t key, std::size_t i, std::size_t k,
                                            std::size_t n) {
  const std::uint64_t start = i * n / k;
  const std::uint64_t length = (i + 1) * n / k - start;
  return static_cast<std::uint32_t>(start + (random_bits(key, i) * length >> 32));
}

// The header of the payload, the indices and the values.
struct DrawElements {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  const float* x;
  std::size_t elements;
  std::size_t k;
  std::uint64_t key;
  bool unbiased;
  std::byte* payload;
  std::uint32_t* indices;
  float* values;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      const std::size_t first = team.number() * kThreads + static_cast<std::size_t>(thread);
      if (first == 0) {
        for (unsigned byte = 0; byte < 4; ++byte) {
          payload[byte] = static_cast<std::byte>(k >> 8 * byte & 0xffu);
        }
        for (unsigned byte = 0; byte < 8; ++byte) {
          payload[4 + byte] = static_cast<std::byte>(key >> 8 * byte & 0xffu);
        }
      }
      for (std::size_t i = first; i < k; i += team.teams() * kThreads) {
        const std::uint32_t index = drawn_index(key, i, k, elements);
        const auto stratum = static_cast<float>((i + 1) * elements / k - i * elements / k);
        indices[i] = index;
        const float value = x[index];
        // a device's arithmetic makes other bits of NaN
        values[i] = unbiased && value == value ? value * stratum : value;
      }
    });
  }
};

// Decoding --------------------------------------------------------------------------------------

struct Clear {
  MLS_KERNEL void operator()(float& into, float) const { into = 0; }
};

// Any bytes may stand in a payload: what they name is looked at before it is written to.

template <class Deliver>
MLS_KERNEL void deliver(const Deliver& how, float* into, std::size_t elements, std::uint64_t index,
                        float value) {
  if (index < elements) how(into[index], value);
}

template <class Format, class Deliver>
struct ScatterDrawn {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  const std::byte* payload;
  std::size_t most;  // values that fit in the payload
  std::size_t elements;
  Deliver how;
  float* into;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t told = unaligned<std::uint32_t>(payload);
    const std::size_t k = told < most ? told : most;
    const std::uint64_t key = unaligned<std::uint64_t>(payload + sizeof(std::uint32_t));
    team.all([&](int thread) {
      for (std::size_t i = team.number() * kThreads + static_cast<std::size_t>(thread); i < k;
           i += team.teams() * kThreads) {
        const float value = Format::value(payload + kRandomKHeader, i);
        deliver(how, into, elements, drawn_index(key, i, k, elements), value);
      }
    });
  }
};

// A coded payload as it came, of at most `bytes` bytes.
struct Coded {
  const std::byte* payload;
  std::size_t bytes;
  std::size_t elements;

  // 0 where the payload is too short for what it says.
  MLS_KERNEL std::size_t count() const {
    const std::size_t told = unaligned<std::uint32_t>(payload);
    const bool fits =
        told <= elements && sizeof(std::uint32_t) + index_code_size(told, elements) <= bytes;
    return fits ? told : 0;
  }
  MLS_KERNEL const std::byte* lows() const { return payload + sizeof(std::uint32_t); }
};

// Set bits of a bitmap by stretches, one team each; short ones, as few threads would wait for
// memory else.
inline constexpr int kStretchWords = 64;
inline constexpr std::size_t kStretchBits = std::size_t{kStretchWords} * 32;

struct Marks {
  Coded coded;

  // The word that a thread of a stretch looks at.
  MLS_KERNEL std::uint32_t word(std::size_t stretch, int thread, std::size_t k) const {
    if (k == 0 || thread >= kStretchWords) return 0;
    const std::size_t bits = bitmap_bits(k, coded.elements);
    const std::size_t first = stretch * kStretchBits + 32 * static_cast<std::size_t>(thread);
    if (first >= bits) return 0;
    const std::byte* const from = coded.lows() + low_bytes(k, coded.elements) + first / 8;
    const std::size_t left = bits - first;
    if (left >= 32) return unaligned<std::uint32_t>(from);
    std::uint32_t word = 0;
    for (std::size_t byte = 0; byte < bytes_for(left); ++byte) {
      word |= static_cast<std::uint32_t>(from[byte]) << 8 * byte;
    }
    return word & ((std::uint32_t{1} << left) - 1);
  }
};

// As many as fit well in what a kernel is started with.
inline constexpr std::size_t kMostFrames = 32;

struct CodedFrames {
  Coded frames[kMostFrames];
};

// Of each stretch of each frame, a team for each of them.
struct CountMarks {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  CodedFrames coded;
  std::size_t stretches;  // of a frame
  std::uint32_t* counts;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const Marks marks{coded.frames[team.number() / stretches]};
    const std::size_t stretch = team.number() % stretches;
    const std::size_t k = marks.coded.count();
    typename Team::template Each<std::uint32_t> own;
    team.all([&](int thread) { own[thread] = count_bits(marks.word(stretch, thread, k)); });
    const std::uint32_t all = team.exclusive_sum(own);
    team.all([&](int thread) {
      if (thread == 0) counts[team.number()] = all;
    });
  }
};

// A team for each frame.
struct AddUpMarks {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  std::uint32_t* counts;
  std::size_t stretches;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    add_up(team, counts + team.number() * stretches, stretches);
  }
};

template <class Format, class Deliver>
struct ScatterCoded {
  static constexpr int kThreads = 256;
  struct Shared {
    std::uint16_t places[kStretchBits];  // of the set bits, in their order
  };

  Marks marks;
  const std::uint32_t* before;
  Deliver how;
  float* into;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& shared) const {
    const Coded& coded = marks.coded;
    const std::size_t k = coded.count();
    if (k == 0) return;
    const std::byte* const values = coded.lows() + index_code_size(k, coded.elements);
    const auto end = static_cast<std::size_t>(values - coded.payload) + Format::bytes(k);
    if (end > coded.bytes) return;
    typename Team::template Each<std::uint32_t> words;
    typename Team::template Each<std::uint32_t> ranks;
    team.all([&](int thread) {
      words[thread] = marks.word(team.number(), thread, k);
      ranks[thread] = count_bits(words[thread]);
    });
    const std::uint32_t all = team.exclusive_sum(ranks);
    team.all([&](int thread) {
      std::uint32_t rank = ranks[thread];
      for (std::uint32_t word = words[thread]; word != 0; word &= word - 1, ++rank) {
        const int place = 32 * thread + lowest_bit(word);
        shared.places[rank] = static_cast<std::uint16_t>(place);
      }
    });
    const unsigned low = low_bits(k, coded.elements);
    team.all([&](int thread) {
      for (std::uint32_t rank = static_cast<std::uint32_t>(thread); rank < all; rank += kThreads) {
        const std::size_t i = before[team.number()] + rank;
        if (i >= k) return;
        const std::uint64_t position = team.number() * kStretchBits + shared.places[rank];
        const std::uint64_t index = (position - i) << low | lows_of(i, low);
        deliver(how, into, coded.elements, index, Format::value(values, i));
      }
    });
  }

 private:
  MLS_KERNEL std::uint64_t lows_of(std::size_t i, unsigned low) const {
    const std::size_t bit = i * low;
    const std::byte* const from = marks.coded.lows() + bit / 8;
    std::uint64_t bits = 0;
    for (unsigned byte = 0; byte < bytes_for(bit % 8 + low); ++byte) {
      bits |= static_cast<std::uint64_t>(from[byte]) << 8 * byte;
    }
    return bits >> bit % 8 & ((std::uint64_t{1} << low) - 1);
  }
};

}  // namespace mls::device
