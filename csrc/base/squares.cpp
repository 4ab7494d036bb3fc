#include "base/squares.hpp"

#include <algorithm>
#include <array>

namespace mls {
namespace {

using Lanes = std::array<double, kSquareLanes>;

double sum_of(Lanes& lanes) {
  for (std::size_t half = kSquareLanes / 2; half > 0; half /= 2) {
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  }
  return lanes[0];
}

}  // namespace

double squares(std::span<const float> x) {
  Lanes sums{};
  for (std::size_t tile = 0; tile * kSquareTile < x.size(); ++tile) {
    const std::span<const float> rest = x.subspan(tile * kSquareTile);
    const std::span<const float> own = rest.first(std::min(rest.size(), kSquareTile));
    Lanes lanes{};
    for (std::size_t row = 0; row < own.size(); row += kSquareLanes) {
      const std::size_t length = std::min(kSquareLanes, own.size() - row);
      for (std::size_t lane = 0; lane < length; ++lane) {
        lanes[lane] += double{own[row + lane]} * own[row + lane];
      }
    }
    sums[tile % kSquareLanes] += sum_of(lanes);
  }
  return sum_of(sums);
}

}  // namespace mls
