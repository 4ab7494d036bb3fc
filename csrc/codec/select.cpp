#include "codec/select.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "codec/dispatch.hpp"
#include "codec/random.hpp"

namespace mls {
namespace {

constexpr std::size_t kBlock = 4096;           // elements that are looked at before room is made
constexpr std::size_t kLeastSample = 4096;     // elements
constexpr std::size_t kSampleOne = 1000;       // of so many elements
constexpr std::size_t kWithoutSample = 16384;  // elements that are not worth one
constexpr double kMargin = 4;  // standard deviations between the sample's threshold and the wanted

const SelectKernels& kernels() { return MLS_FASTEST(select_kernels); }

std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

// The k-th largest magnitude, and how many of that magnitude are among the k largest.
struct Cut {
  std::uint32_t magnitude;
  std::size_t ties;
};

// Digit by digit, highest first: 11, 10 and 10 bits. 1 <= k <= values.size().
Cut cut_at(std::span<const float> values, std::size_t k) {
  std::array<std::uint32_t, 2048> counts{};
  const auto digit_of_kth = [&](std::uint32_t digits) {
    std::uint32_t digit = digits - 1;
    for (; counts[digit] < k; --digit) k -= counts[digit];
    return digit;
  };
  for (const float value : values) ++counts[magnitude(value) >> 20];
  std::uint32_t kth = digit_of_kth(2048);
  std::vector<std::uint32_t> alike;  // magnitudes that begin with the digits of the k-th
  alike.reserve(counts[kth]);
  for (const float value : values) {
    if (magnitude(value) >> 20 == kth) alike.push_back(magnitude(value));
  }
  for (const int shift : {10, 0}) {
    counts.fill(0);
    for (const std::uint32_t one : alike) ++counts[one >> shift & 1023u];
    kth = kth << 10 | digit_of_kth(1024);
    std::erase_if(alike, [&](std::uint32_t one) { return one >> shift != kth; });
  }
  return {kth, k};
}

// Keeps the k largest; returns the least magnitude that an element behind them needs to be one.
std::uint32_t keep_top(Selection& all, std::size_t k) {
  const Cut cut = cut_at({all.values.get(), all.count}, k);
  std::size_t ties = cut.ties;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < all.count; ++i) {
    const float value = all.values[i];
    const bool tie = magnitude(value) == cut.magnitude && ties > 0;
    all.indices[kept] = all.indices[i];
    all.values[kept] = value;
    ties -= tie ? 1 : 0;
    kept += tie || magnitude(value) > cut.magnitude ? 1 : 0;
  }
  all.count = k;
  return cut.magnitude + 1;
}

void select_block(std::span<const float> x, std::size_t start, std::uint32_t least,
                  Selection& into) {
  const std::size_t count = std::min(kBlock, x.size() - start);
  into.count += kernels().select(x.data() + start, count, least, static_cast<std::uint32_t>(start),
                                 into.indices.get() + into.count, into.values.get() + into.count);
}

// The k largest of the elements whose magnitude is `least` or more; all of them, where they are
// fewer.
Selection top_from(std::span<const float> x, std::size_t k, std::uint32_t least) {
  Selection top;
  const std::size_t enough = std::max(2 * k, kBlock);
  top.reserve(std::min(enough, x.size()) + kBlock);
  for (std::size_t start = 0; start < x.size(); start += kBlock) {
    if (top.count >= enough) least = keep_top(top, k);
    select_block(x, start, least, top);
  }
  if (top.count > k) keep_top(top, k);
  return top;
}

// The magnitude that about k of the elements have or exceed, or surely as many.
std::uint32_t sample_threshold(std::span<const float> x, const Sample& sample) {
  if (sample.rank == 0) return 0;
  std::vector<float> drawn(sample.size);
  for (std::size_t i = 0; i < sample.size; ++i) {
    drawn[i] =
        x[static_cast<std::size_t>(random_bits(sample.key, i) * std::uint64_t{x.size()} >> 32)];
  }
  return cut_at(drawn, sample.rank).magnitude;
}

Selection select_exactly(std::span<const float> x, std::size_t k) {
  const Sample sample = sample_for(x.size(), k, false, {});
  if (sample.rank > 0) {
    Selection top = top_from(x, k, sample_threshold(x, sample));
    if (top.count == k) return top;
  }
  return top_from(x, k, 0);
}

Selection select_by_sample(std::span<const float> x, std::size_t k, Draw draw) {
  Selection top = top_from(x, k, sample_threshold(x, sample_for(x.size(), k, true, draw)));
  return top.count >= k - k / 2 ? std::move(top) : select_exactly(x, k);
}

}  // namespace

Sample sample_for(std::size_t n, std::size_t k, bool sampled, Draw draw) {
  if (n <= kWithoutSample) return {};
  const std::size_t size = std::max(kLeastSample, n / kSampleOne);
  const std::size_t expected = (size * k + n - 1) / n;
  const double margin = sampled ? 0 : kMargin * (std::sqrt(static_cast<double>(expected)) + 1);
  const std::size_t rank = expected + static_cast<std::size_t>(margin);
  if (rank >= size) return {};
  return {size, rank, sampled ? key_of(draw.key, draw.first) : 0};
}

void Selection::reserve(std::size_t elements) {
  if (elements <= room) return;
  auto more_indices = std::make_unique_for_overwrite<std::uint32_t[]>(elements + kSelectSlack);
  auto more_values = std::make_unique_for_overwrite<float[]>(elements + kSelectSlack);
  std::copy_n(indices.get(), count, more_indices.get());
  std::copy_n(values.get(), count, more_values.get());
  indices = std::move(more_indices);
  values = std::move(more_values);
  room = elements;
}

std::size_t select_top(std::span<const float> x, std::size_t k, bool sampled, Draw draw,
                       std::uint32_t* indices, float* values) {
  if (k == 0) return 0;
  const Selection top = sampled ? select_by_sample(x, k, draw) : select_exactly(x, k);
  std::copy_n(top.indices.get(), top.count, indices);
  if (values != nullptr) std::copy_n(top.values.get(), top.count, values);
  return top.count;
}

Selection select_above(std::span<const float> x, float bound) {
  Selection above;
  for (std::size_t start = 0; start < x.size(); start += kBlock) {
    if (above.count + kBlock > above.room) above.reserve(2 * (above.count + kBlock));
    select_block(x, start, magnitude(bound) + 1, above);
  }
  return above;
}

}  // namespace mls
