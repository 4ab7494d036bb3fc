// Momentum on the device: into[i] = a x[i] + b y[i], each product and the sum rounded.
#pragma once

#include <cstddef>

#include "comm/topology.hpp"
#include "cuda/dense.hpp"
#include "cuda/team.hpp"

namespace mls::device {

struct Blend {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  std::size_t count;
  float a;
  const float* x;
  float b;
  const float* y;
  float* into;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    each_spot(team, count, [&](const Spot<kThreads>& spot) {
      Eight sum = read_eight(x, spot, count);
      const Eight other = read_eight(y, spot, count);
      for (std::size_t k = 0; k < kEach; ++k) sum.at[k] = a * sum.at[k] + b * other.at[k];
      write_eight(sum, into, spot, count);
    });
  }
};

template <class Machine>
void blend(Machine& machine, const Blend& call) {
  machine.run(ceil_div(call.count, kTile), call);
}

}  // namespace mls::device
