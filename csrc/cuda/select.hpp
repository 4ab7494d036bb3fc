// Which elements are largest, as codec/select.hpp says, without the host: how far it is known is in
// device memory. What becomes of them is in selected.hpp.
//
//   Begin       nothing is known
//   CountDigits, PickDigit
//               a radix select, three digits of 11, 10 and 10 bits from the highest on: of a
//               sample, for a threshold
//   Collect     takes the gradient in (error feedback), and lists the candidates: elements that the
//               threshold lets pass, tile by tile
//   Refine      says what comes next: candidates are taken, or searched, or all elements are, where
//               candidates are too few or too many for the list
//   CountDigits, PickDigit
//               once more, of these
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/random.hpp"
#include "cuda/dense.hpp"

namespace mls::device {

// Among what the digits are looked for, or what is taken as it is.
enum class Among : std::uint32_t { sample, candidates, everything, settled };

inline constexpr std::size_t kDigits = 2048;

MLS_KERNEL inline std::uint32_t magnitude_of(float x) { return bits_of(x) & 0x7fffffffu; }

// In device memory.
struct Progress {
  Among among;
  std::uint32_t candidates;  // there are; more than fit in the list are not in it
  std::uint32_t wanted;      // of those whose magnitude begins with the digits that are known
  std::uint32_t digits;      // these, as a number; of the sample they are the threshold
  std::uint32_t from;        // selected are those of this magnitude or more,
  std::uint32_t ties;        // and this many, the first, of the one below
  std::uint32_t above;       // there are of the former,
  std::uint32_t tied;        // and of that one
  std::uint32_t histogram[kDigits];

  MLS_KERNEL std::uint32_t count() const { return above + (tied < ties ? tied : ties); }
};

struct Begin {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  Progress* progress;
  std::uint32_t rank;  // of the sample's element that is the threshold; 0 for none
  std::uint32_t from;  // where the threshold is given: the least magnitude

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      for (std::size_t k = static_cast<std::size_t>(thread); k < kDigits; k += kThreads) {
        progress->histogram[k] = 0;
      }
      if (thread != 0) return;
      progress->among = Among::sample;
      progress->candidates = 0;
      progress->wanted = rank;
      progress->digits = 0;
      progress->from = from;
      progress->ties = 0;
      progress->above = 0;
      progress->tied = 0;
    });
  }
};

// Candidates, in order within a tile. Those of a tile are together.
struct Candidates {
  std::uint32_t* indices;
  float* values;
  std::uint32_t* starts;  // of each tile
  std::uint32_t* counts;
  std::uint32_t room;
};

template <class Feedback>
struct Collect {
  static constexpr int kThreads = 256;
  struct Shared {
    std::uint32_t start;
  };

  Source source;
  std::size_t count;
  float* sent;  // y, where it is kept apart from `kept`
  Candidates into;
  Progress* progress;  // null: there are no candidates

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& shared) const {
    const std::size_t tiles = (count + kTile - 1) / kTile;
    const std::uint32_t least = progress != nullptr ? progress->digits : 0xffffffffu;
    for (std::size_t tile = team.number(); tile < tiles; tile += team.teams()) {
      typename Team::template Each<Eight> own;
      // of the first group in the lower half of the number, of the second in the upper one
      typename Team::template Each<std::uint32_t> before;
      team.all([&](int thread) {
        const Spot<kThreads> spot{tile * kTile, thread};
        Eight kept;
        own[thread] = to_send<Feedback>(source, spot, count, kept);
        if constexpr (Feedback::kKind == mls::Feedback::classic) {
          write_eight(own[thread], source.kept, spot, count);
        } else if constexpr (Feedback::kKind == mls::Feedback::ef21) {
          write_eight(own[thread], sent, spot, count);
        }
        std::uint32_t passing = 0;
        for (std::size_t k = 0; k < kEach; ++k) {
          const bool passes = spot[k] < count && magnitude_of(own[thread].at[k]) >= least;
          passing += passes ? 1u << 16 * (k / kGroup) : 0u;
        }
        before[thread] = passing;
      });
      const std::uint32_t both = team.exclusive_sum(before);
      const std::uint32_t passing = (both & 0xffffu) + (both >> 16);
      team.all([&](int thread) {
        if (thread != 0) return;
        shared.start = passing > 0 ? Team::add(&progress->candidates, passing) : 0;
        into.starts[tile] = shared.start;
        into.counts[tile] = passing;
      });
      const std::uint32_t first = shared.start;
      team.all([&](int thread) {
        if (passing == 0 || first > into.room || passing > into.room - first) return;
        const Spot<kThreads> spot{tile * kTile, thread};
        for (std::size_t g = 0; g < kGroups; ++g) {
          std::uint32_t at = first + (g == 0 ? before[thread] & 0xffffu
                                             : (both & 0xffffu) + (before[thread] >> 16));
          for (std::size_t k = g * kGroup; k < (g + 1) * kGroup; ++k) {
            const float value = own[thread].at[k];
            if (spot[k] >= count || magnitude_of(value) < least) continue;
            into.indices[at] = static_cast<std::uint32_t>(spot[k]);
            into.values[at++] = value;
          }
        }
      });
    }
  }
};

// What the digits are counted of, in its turn: at() has size() and magnitude(i).
template <class Feedback>
struct OfSample {
  static constexpr bool kSelects = false;
  Source source;
  std::size_t elements;
  std::uint64_t key;
  std::size_t count;

  MLS_KERNEL const OfSample& at(const Progress&) const { return *this; }
  MLS_KERNEL std::size_t size() const { return count; }
  MLS_KERNEL std::uint32_t magnitude(std::size_t i) const {
    const std::size_t at =
        static_cast<std::size_t>(random_bits(key, i) * std::uint64_t{elements} >> 32);
    const float kept = Feedback::kKind == mls::Feedback::none ? 0.0f : source.kept[at];
    return magnitude_of(Feedback::sent(source.x[at], kept));
  }
};

struct OfChosen {
  static constexpr bool kSelects = true;
  const float* candidates;
  const float* everything;
  std::size_t count;  // of everything

  struct Values {
    const float* values;
    std::size_t count;

    MLS_KERNEL std::size_t size() const { return count; }
    MLS_KERNEL std::uint32_t magnitude(std::size_t i) const { return magnitude_of(values[i]); }
  };

  MLS_KERNEL Values at(const Progress& progress) const {
    if (progress.among == Among::everything) return {everything, count};
    return {candidates, progress.candidates};
  }
};

MLS_KERNEL inline bool has_turn(const Progress& progress, bool selects) {
  return selects ? progress.among == Among::candidates || progress.among == Among::everything
                 : progress.among == Among::sample;
}

// Digit 0 is the highest.
inline constexpr int kLastDigit = 2;
MLS_KERNEL inline unsigned shift_of(int digit) { return digit == 0 ? 20u : digit == 1 ? 10u : 0u; }
MLS_KERNEL inline unsigned width_of(int digit) { return digit == 0 ? 11u : 10u; }

template <class Of>
struct CountDigits {
  static constexpr int kThreads = 256;
  struct Shared {
    std::uint32_t histogram[kDigits];
  };

  Of of;
  Progress* progress;
  int digit;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& shared) const {
    if (!has_turn(*progress, Of::kSelects)) return;
    const auto& counted = of.at(*progress);
    const std::size_t size = counted.size();
    const std::uint32_t known = progress->digits;
    const unsigned shift = shift_of(digit);
    const std::uint32_t mask = (1u << width_of(digit)) - 1;
    team.all([&](int thread) {
      for (std::size_t k = static_cast<std::size_t>(thread); k < kDigits; k += kThreads) {
        shared.histogram[k] = 0;
      }
    });
    team.all([&](int thread) {
      for (std::size_t i = team.number() * kThreads + static_cast<std::size_t>(thread); i < size;
           i += team.teams() * kThreads) {
        const std::uint32_t magnitude = counted.magnitude(i);
        // the digits above it are known; above the first there are none
        if (digit > 0 && magnitude >> (shift + width_of(digit)) != known) continue;
        Team::add(&shared.histogram[magnitude >> shift & mask], 1);
      }
    });
    team.all([&](int thread) {
      for (std::size_t k = static_cast<std::size_t>(thread); k < kDigits; k += kThreads) {
        if (shared.histogram[k] > 0) Team::add(&progress->histogram[k], shared.histogram[k]);
      }
    });
  }
};

// One team. The last digit of what is selected says from where on it is.
struct PickDigit {
  static constexpr int kThreads = 256;
  using Shared = Nothing;
  static constexpr std::size_t kOwn = kDigits / kThreads;

  Progress* progress;
  bool selects;
  int digit;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    if (!has_turn(*progress, selects)) return;
    const std::uint32_t known = progress->digits;
    const std::uint32_t wanted = progress->wanted;
    typename Team::template Each<std::uint32_t> before;
    // thread 0 has the highest digits
    team.all([&](int thread) {
      std::uint32_t own = 0;
      for (std::size_t k = 0; k < kOwn; ++k) own += progress->histogram[place(thread, k)];
      before[thread] = own;
    });
    team.exclusive_sum(before);
    team.all([&](int thread) {
      std::uint32_t above = before[thread];
      for (std::size_t k = 0; k < kOwn; ++k) {
        const std::uint32_t here = progress->histogram[place(thread, k)];
        if (above < wanted && wanted <= above + here) {
          const std::uint32_t digits =
              known << width_of(digit) | static_cast<std::uint32_t>(place(thread, k));
          progress->digits = digits;
          progress->wanted = wanted - above;
          if (selects && digit == kLastDigit) {
            progress->from = digits + 1;
            progress->ties = wanted - above;
          }
        }
        above += here;
      }
    });
    team.all([&](int thread) {
      for (std::size_t k = 0; k < kOwn; ++k) progress->histogram[place(thread, k)] = 0;
    });
  }

 private:
  MLS_KERNEL static std::size_t place(int thread, std::size_t k) {
    return kDigits - 1 - (static_cast<std::size_t>(thread) * kOwn + k);
  }
};

// One thread's decision.
struct Refine {
  static constexpr int kThreads = 32;
  using Shared = Nothing;

  Progress* progress;
  std::uint32_t k;      // wanted; 0 where the threshold is given
  std::uint32_t least;  // the number of candidates that is enough
  std::uint32_t room;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      if (thread != 0) return;
      Progress& now = *progress;
      now.digits = 0;
      now.wanted = k;
      if (k == 0 || now.candidates < least || now.candidates > room) {
        now.among = Among::everything;
      } else {
        now.among = now.candidates <= k ? Among::settled : Among::candidates;
      }
    });
  }
};

}  // namespace mls::device
