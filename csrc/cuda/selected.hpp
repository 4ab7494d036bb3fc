// Where each element that was selected goes, so that indices ascend: CountTiles, AddUpTiles and
// WriteSelected, in this order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/bits.hpp"
#include "cuda/dense.hpp"
#include "cuda/select.hpp"

namespace mls::device {

// Elements of a tile that may be selected: the tile's candidates, or all.
struct Choice {
  const float* values;
  std::size_t count;
  Candidates candidates;
  Progress* progress;

  struct Tile {
    const float* values;
    const std::uint32_t* indices;  // null: those of the array, from `first` on
    std::size_t first;
    std::size_t length;
  };

  MLS_KERNEL Tile tile(std::size_t number) const {
    const std::size_t first = number * kTile;
    if (progress->among == Among::everything) {
      const std::size_t length = count - first < kTile ? count - first : kTile;
      return {values + first, nullptr, first, length};
    }
    const std::uint32_t start = candidates.starts[number];
    return {candidates.values + start, candidates.indices + start, first,
            candidates.counts[number]};
  }

  MLS_KERNEL bool above(float x) const { return magnitude_of(x) >= progress->from; }
  MLS_KERNEL bool tie(float x) const { return magnitude_of(x) + 1 == progress->from; }
};

// How many of each tile are selected without question, and how many are ties. A warp takes a tile,
// whose candidates are few.
struct CountTiles {
  static constexpr int kThreads = 32;
  using Shared = Nothing;

  Choice choice;
  std::uint32_t* above;
  std::uint32_t* ties;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t tiles = (choice.count + kTile - 1) / kTile;
    for (std::size_t number = team.number(); number < tiles; number += team.teams()) {
      const Choice::Tile tile = choice.tile(number);
      typename Team::template Each<std::uint32_t> own_above;
      typename Team::template Each<std::uint32_t> own_ties;
      team.all([&](int thread) {
        own_above[thread] = 0;
        own_ties[thread] = 0;
        for (std::size_t i = static_cast<std::size_t>(thread); i < tile.length; i += kThreads) {
          own_above[thread] += choice.above(tile.values[i]) ? 1 : 0;
          own_ties[thread] += choice.tie(tile.values[i]) ? 1 : 0;
        }
      });
      const std::uint32_t all_above = team.exclusive_sum(own_above);
      const std::uint32_t all_ties = team.exclusive_sum(own_ties);
      team.all([&](int thread) {
        if (thread != 0) return;
        above[number] = all_above;
        ties[number] = all_ties;
      });
    }
  }
};

// Counts become sums of those before. One team; returns the sum of all to every thread.
template <class Team>
MLS_KERNEL std::uint32_t add_up(Team& team, std::uint32_t* counts, std::size_t length) {
  constexpr std::size_t kOwn = 32;
  std::uint32_t total = 0;
  for (std::size_t base = 0; base < length; base += kOwn * Team::kThreads) {
    typename Team::template Each<std::uint32_t> before;
    const auto each = [&](int thread, auto body) {
      const std::size_t first = base + kOwn * static_cast<std::size_t>(thread);
      for (std::size_t i = first; i < first + kOwn && i < length; ++i) body(counts[i]);
    };
    team.all([&](int thread) {
      std::uint32_t sum = 0;
      each(thread, [&](std::uint32_t& count) { sum += count; });
      before[thread] = sum;
    });
    const std::uint32_t all = team.exclusive_sum(before);
    team.all([&](int thread) {
      std::uint32_t sum = total + before[thread];
      each(thread, [&](std::uint32_t& count) {
        const std::uint32_t own = count;
        count = sum;
        sum += own;
      });
    });
    total += all;
  }
  return total;
}

// Two teams: one for what is above, one for ties.
struct AddUpTiles {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  std::uint32_t* above;
  std::uint32_t* ties;
  std::size_t tiles;
  Progress* progress;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const bool first = team.number() == 0;
    const std::uint32_t all = add_up(team, first ? above : ties, tiles);
    team.all([&](int thread) {
      if (thread == 0) (first ? progress->above : progress->tied) = all;
    });
  }
};

// The selected elements, in the order of their indices.
struct WriteSelected {
  static constexpr int kThreads = 32;
  static constexpr int kRows = 8;
  using Shared = Nothing;

  Choice choice;
  const std::uint32_t* above;
  const std::uint32_t* ties;
  std::uint32_t* indices;
  float* values;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t tiles = (choice.count + kTile - 1) / kTile;
    for (std::size_t number = team.number(); number < tiles; number += team.teams()) {
      const Choice::Tile tile = choice.tile(number);
      Passed before{above[number], ties[number]};
      for (std::size_t row = 0; row < tile.length; row += kRows * kThreads) {
        write(team, tile, row, before);
      }
    }
  }

 private:
  // How many there were so far.
  struct Passed {
    std::uint32_t above;
    std::uint32_t ties;
  };

  // Elements `first` to first + 255 of a tile.
  template <class Team>
  MLS_KERNEL void write(Team& team, const Choice::Tile& tile, std::size_t first,
                        Passed& before) const {
    typename Team::template Each<float> own[kRows];
    typename Team::template Each<std::uint32_t> is_above[kRows];
    typename Team::template Each<std::uint32_t> is_tie[kRows];
    const auto place = [&](int row, int thread) {
      return first + static_cast<std::size_t>(row * kThreads + thread);
    };
    team.all([&](int thread) {
      for (int row = 0; row < kRows; ++row) {
        const std::size_t i = place(row, thread);
        own[row][thread] = i < tile.length ? tile.values[i] : 0.0f;
        is_above[row][thread] = i < tile.length && choice.above(own[row][thread]) ? 1 : 0;
        is_tie[row][thread] = i < tile.length && choice.tie(own[row][thread]) ? 1 : 0;
      }
    });
    const std::uint32_t most_ties = choice.progress->ties;
    for (int row = 0; row < kRows; ++row) {
      const std::uint32_t all_above = team.votes(is_above[row]);
      const std::uint32_t all_ties = team.votes(is_tie[row]);
      team.all([&](int thread) {
        const std::uint32_t lower = (std::uint32_t{1} << thread) - 1;
        const std::uint32_t tied = before.ties + count_bits(all_ties & lower);
        if (is_above[row][thread] == 0 && (is_tie[row][thread] == 0 || tied >= most_ties)) return;
        const std::uint32_t at =
            before.above + count_bits(all_above & lower) + (tied < most_ties ? tied : most_ties);
        const std::size_t i = place(row, thread);
        indices[at] =
            tile.indices != nullptr ? tile.indices[i] : static_cast<std::uint32_t>(tile.first + i);
        values[at] = own[row][thread];
      });
      before.above += count_bits(all_above);
      before.ties += count_bits(all_ties);
    }
  }
};

}  // namespace mls::device
