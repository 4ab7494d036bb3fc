// Norms on the device: the bits of base/squares.hpp. What is made of a norm stays on the device, so
// that nobody waits for it.
#pragma once

#include <cstddef>

#include "base/squares.hpp"
#include "comm/topology.hpp"
#include "cuda/dense.hpp"
#include "cuda/team.hpp"

namespace mls::device {

struct SquareLanes {
  double at[kSquareLanes];
};

// The sum of all lanes, left in the first.
template <class Team>
MLS_KERNEL void add_halves(Team& team, SquareLanes& lanes) {
  for (int half = Team::kThreads / 2; half > 0; half /= 2) {
    team.all([&](int thread) {
      if (thread < half) lanes.at[thread] += lanes.at[thread + half];
    });
  }
}

struct SquareTiles {
  static constexpr int kThreads = static_cast<int>(kSquareLanes);
  using Shared = SquareLanes;

  const float* x;
  std::size_t count;
  double* sums;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& lanes) const {
    for (std::size_t tile = team.number(); tile * kSquareTile < count; tile += team.teams()) {
      team.all([&](int thread) {
        const std::size_t first = tile * kSquareTile;
        const std::size_t end = first + kSquareTile < count ? first + kSquareTile : count;
        double sum = 0;
        for (std::size_t i = first + static_cast<std::size_t>(thread); i < end; i += kSquareLanes) {
          sum += double{x[i]} * x[i];
        }
        lanes.at[thread] = sum;
      });
      add_halves(team, lanes);
      team.all([&](int thread) {
        if (thread == 0) sums[tile] = lanes.at[0];
      });
    }
  }
};

// Then: what becomes of the sum of all tiles. One team.
template <class Then>
struct AddUpSquares {
  static constexpr int kThreads = static_cast<int>(kSquareLanes);
  using Shared = SquareLanes;

  const double* sums;
  std::size_t tiles;
  Then then;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared& lanes) const {
    team.all([&](int thread) {
      double sum = 0;
      for (std::size_t tile = static_cast<std::size_t>(thread); tile < tiles;
           tile += kSquareLanes) {
        sum += sums[tile];
      }
      lanes.at[thread] = sum;
    });
    add_halves(team, lanes);
    team.all([&](int thread) {
      if (thread == 0) then(lanes.at[0]);
    });
  }
};

struct KeepSquares {
  double* into;
  MLS_KERNEL void operator()(double squares) const { *into = squares; }
};

struct KeepFactor {
  double most;
  float* into;
  MLS_KERNEL void operator()(double squares) const { *into = factor_within(squares, most); }
};

// x[i] *= *factor
struct Scale {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  float* x;
  std::size_t count;
  const float* factor;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const float by = *factor;
    if (by == 1) return;
    each_spot(team, count, [&](const Spot<kThreads>& spot) {
      Eight scaled = read_eight(x, spot, count);
      for (std::size_t k = 0; k < kEach; ++k) scaled.at[k] = by * scaled.at[k];
      write_eight(scaled, x, spot, count);
    });
  }
};

template <class Machine, class Then>
void with_squares(Machine& machine, const float* x, std::size_t count, const Then& then) {
  const std::size_t tiles = ceil_div(count, kSquareTile);
  const auto sums = machine.template room<double>(tiles);
  machine.run(tiles, SquareTiles{x, count, sums.get()});
  machine.run_all(1, AddUpSquares<Then>{sums.get(), tiles, then});
}

template <class Machine>
void squares(Machine& machine, const float* x, std::size_t count, double* into) {
  with_squares(machine, x, count, KeepSquares{into});
}

// Makes the norm of x at most this.
template <class Machine>
void clip(Machine& machine, float* x, std::size_t count, double most) {
  const auto factor = machine.template room<float>(1);
  with_squares(machine, x, count, KeepFactor{most, factor.get()});
  machine.run(ceil_div(count, kTile), Scale{x, count, factor.get()});
}

}  // namespace mls::device
