#include "comm/compressor.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/squares.hpp"

namespace mls {
namespace {

// Runs body(part, whether it is compressed) over the whole array, in order.
template <class Body>
void each(const Compression& how, Body body) {
  std::size_t at = 0;
  for (const Part part : how.parts) {
    if (part.start > at) body(Part{at, part.start - at}, false);
    body(part, true);
    at = part.start + part.length;
  }
  if (at < how.count) body(Part{at, how.count - at}, false);
}

float limit(std::span<const float> x, const Compression& how, std::size_t ranks) {
  if (how.clip_norm == 0) return 1;
  return factor_within(squares(x), how.clip_norm / std::sqrt(static_cast<double>(ranks)));
}

}  // namespace

Compressor::Compressor(Compression how) : how_(std::move(how)) {
  for (const Part part : how_.parts) compressed_ += part.length;
}

void Compressor::gather(std::span<const float> array, bool compressed,
                        std::span<float> into) const {
  auto at = into.begin();
  each(how_, [&](Part part, bool is) {
    if (is == compressed) at = std::ranges::copy(array.subspan(part.start, part.length), at).out;
  });
}

void Compressor::scatter(std::span<const float> from, bool compressed,
                         std::span<float> array) const {
  std::size_t at = 0;
  each(how_, [&](Part part, bool is) {
    if (is != compressed) return;
    std::ranges::copy(from.subspan(at, part.length), array.subspan(part.start).begin());
    at += part.length;
  });
}

Division Compressor::division() const {
  if (cut.size() != 2) return {};
  return {static_cast<Pattern>(cut[0]), static_cast<std::size_t>(cut[1])};
}

void Compressor::divide(Division how) {
  cut = {static_cast<float>(how.pattern), static_cast<float>(how.granule)};
}

std::vector<std::pair<const char*, std::vector<float>*>> Compressor::state() {
  return {{"residual", &residual}, {"velocity", &velocity}, {"carried", &carried},
          {"owned", &owned},       {"cut", &cut},           {"estimate", &estimate},
          {"basis", &basis}};
}

void Compressor::carry_on(std::span<float> sum) {
  if (how_.momentum == 0) return;
  if (carried.size() != sum.size()) carried.assign(sum.size(), 0);
  const auto m = static_cast<float>(how_.momentum);
  const float fresh = how_.feedback == Feedback::ef21 ? 1 - m : 1.0f;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    carried[i] = m * carried[i] + fresh * sum[i];
    sum[i] = carried[i];
  }
}

std::span<float> Compressor::load(std::span<float> x, std::size_t ranks) {
  if (how_.feedback == Feedback::none) return x;
  const std::size_t count = x.size();
  const float scale = limit(x, how_, ranks);
  const auto m = static_cast<float>(how_.momentum);
  // another size is of another number of ranks
  if (residual.size() != count) residual.assign(count, 0);
  float* const r = residual.data();
  if (m > 0 && velocity.size() != count) velocity.assign(count, 0);
  float* const u = velocity.data();
  if (how_.feedback == Feedback::classic) {
    if (m > 0) {
      for (std::size_t i = 0; i < count; ++i) {
        u[i] = m * u[i] + scale * x[i];
        r[i] += u[i];
      }
    } else {
      for (std::size_t i = 0; i < count; ++i) r[i] += scale * x[i];
    }
    return residual;
  }
  difference_.resize(count);
  float* const y = difference_.data();
  if (m > 0) {
    for (std::size_t i = 0; i < count; ++i) {
      u[i] = m * u[i] + (1 - m) * (scale * x[i]);
      y[i] = u[i] - r[i];
    }
  } else {
    for (std::size_t i = 0; i < count; ++i) y[i] = scale * x[i] - r[i];
  }
  return difference_;
}

}  // namespace mls
