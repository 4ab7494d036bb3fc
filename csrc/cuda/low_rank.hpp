// PowerSGD on the device: products of a matrix with a few columns, and back. See
// codec/low_rank.hpp.
//
// Sums of products have an order of their own, so that their last bits are not the host's; they are
// added up over the ranks anyway. What all ranks must have alike, P Q^T, is summed as on the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "comm/topology.hpp"
#include "cuda/dense.hpp"
#include "cuda/device.hpp"
#include "cuda/team.hpp"

namespace mls::device {

inline constexpr std::size_t kColumns = 8;  // of P or Q at a time: the matrix is read once for them

// P = M Q: a warp takes a row.
struct MultiplyQ {
  static constexpr int kThreads = 32;
  using Shared = Nothing;

  Factored shape;
  std::size_t first;  // column
  const float* m;
  const float* q;
  float* p;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    for (std::size_t row = team.number(); row < shape.rows; row += team.teams()) {
      typename Team::template Each<float> sums[kColumns];
      team.all([&](int thread) {
        for (std::size_t c = 0; c < kColumns; ++c) sums[c][thread] = 0;
        for (std::size_t j = static_cast<std::size_t>(thread); j < shape.cols; j += kThreads) {
          const float value = m[row * shape.cols + j];
          for (std::size_t c = 0; c < kColumns; ++c) {
            if (first + c < shape.rank) {
              sums[c][thread] += value * q[(first + c) * shape.cols + j];
            }
          }
        }
      });
      for (std::size_t c = 0; c < kColumns && first + c < shape.rank; ++c) {
        for (int half = kThreads / 2; half > 0; half /= 2) {
          typename Team::template Each<float> next;
          team.all([&](int thread) {
            next[thread] = sums[c][thread] + team.of(sums[c], thread ^ half);
          });
          team.all([&](int thread) { sums[c][thread] = next[thread]; });
        }
        team.all([&](int thread) {
          if (thread == 0) p[(first + c) * shape.rows + row] = sums[c][thread];
        });
      }
    }
  }
};

// Q = M^T P by slices of the rows: slice s of column c is at slices[(s * rank + c) * cols]. A team
// takes 256 columns of the matrix and a slice.
struct MultiplyP {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  Factored shape;
  std::size_t first;  // column of P
  std::size_t each;   // rows of a slice
  const float* m;
  const float* p;
  float* slices;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t tiles = (shape.cols + kThreads - 1) / kThreads;
    const std::size_t slice = team.number() / tiles;
    const std::size_t start = slice * each;
    const std::size_t end = start + each < shape.rows ? start + each : shape.rows;
    team.all([&](int thread) {
      const std::size_t j = team.number() % tiles * kThreads + static_cast<std::size_t>(thread);
      if (j >= shape.cols) return;
      float sums[kColumns] = {};
      for (std::size_t row = start; row < end; ++row) {
        const float value = m[row * shape.cols + j];
        for (std::size_t c = 0; c < kColumns; ++c) {
          if (first + c < shape.rank) sums[c] += value * p[(first + c) * shape.rows + row];
        }
      }
      for (std::size_t c = 0; c < kColumns; ++c) {
        if (first + c < shape.rank) {
          slices[(slice * shape.rank + first + c) * shape.cols + j] = sums[c];
        }
      }
    });
  }
};

struct AddSlices {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  std::size_t count;  // of Q
  std::size_t slices;
  const float* from;
  float* q;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    team.all([&](int thread) {
      for (std::size_t i = team.number() * kThreads + static_cast<std::size_t>(thread); i < count;
           i += team.teams() * kThreads) {
        float sum = 0;
        for (std::size_t slice = 0; slice < slices; ++slice) sum += from[slice * count + i];
        q[i] = sum;
      }
    });
  }
};

// M = P Q^T, or M += factor P Q^T.
template <bool kAdds>
struct Expand {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  Factored shape;
  const float* p;
  const float* q;
  float factor;
  float* m;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t count = shape.rows * shape.cols;
    team.all([&](int thread) {
      for (std::size_t i = team.number() * kThreads + static_cast<std::size_t>(thread); i < count;
           i += team.teams() * kThreads) {
        const std::size_t row = i / shape.cols;
        const std::size_t col = i % shape.cols;
        float sum = 0;
        for (std::size_t c = 0; c < shape.rank; ++c) {
          sum += p[c * shape.rows + row] * q[c * shape.cols + col];
        }
        if constexpr (kAdds) {
          m[i] += factor * sum;
        } else {
          m[i] = sum;
        }
      }
    });
  }
};

template <class Machine>
void multiply_q(Machine& machine, const Factored& shape, const float* m, const float* q, float* p) {
  for (std::size_t first = 0; first < shape.rank; first += kColumns) {
    machine.run(shape.rows, MultiplyQ{shape, first, m, q, p});
  }
}

template <class Machine>
void multiply_p(Machine& machine, const Factored& shape, const float* m, const float* p, float* q) {
  constexpr std::size_t kLeastRows = 64;  // of a slice
  constexpr std::size_t kMostSlices = 64;
  const std::size_t each = std::max(kLeastRows, ceil_div(shape.rows, kMostSlices));
  const std::size_t slices = ceil_div(shape.rows, each);
  const std::size_t tiles = ceil_div(shape.cols, MultiplyP::kThreads);
  const std::size_t count = shape.rank * shape.cols;
  const auto partial = machine.template room<float>(slices * count);
  for (std::size_t first = 0; first < shape.rank; first += kColumns) {
    machine.run_all(tiles * slices, MultiplyP{shape, first, each, m, p, partial.get()});
  }
  machine.run(ceil_div(count, AddSlices::kThreads), AddSlices{count, slices, partial.get(), q});
}

template <class Machine>
void expand(Machine& machine, const Factored& shape, const float* p, const float* q, float* m) {
  machine.run(ceil_div(shape.rows * shape.cols, kTile), Expand<false>{shape, p, q, 1, m});
}

template <class Machine>
void add_expanded(Machine& machine, const Factored& shape, const float* p, const float* q,
                  float factor, float* m) {
  machine.run(ceil_div(shape.rows * shape.cols, kTile), Expand<true>{shape, p, q, factor, m});
}

}  // namespace mls::device
