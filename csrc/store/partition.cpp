#include "store/partition.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "codec/random.hpp"

namespace mls {
namespace {

// Part `index` of `count` things in parts that differ by at most one; longer ones first.
Range part(std::uint64_t count, std::uint32_t parts, std::uint32_t index) {
  const std::uint64_t base = count / parts;
  const std::uint64_t longer = count % parts;
  return {index * base + std::min<std::uint64_t>(index, longer), base + (index < longer ? 1 : 0)};
}

struct Divided {
  std::uint64_t quotient;
  std::uint64_t rest;
};

// A division of 32 bits takes half the time of one of 64.
Divided divided(std::uint64_t number, std::uint32_t by) {
  if (number >> 32 == 0) {
    const auto small = static_cast<std::uint32_t>(number);
    return {small / by, small % by};
  }
  return {number / by, number % by};
}

// A permutation of [0, count): a number is high * 2^k + low, with highs below `highs_`, the least
// that covers all. The halves change in turn, by what the other one and a key are mixed to. Fewer
// than 2^k of the results lie beyond the count, about one in the root of it.
class Permutation {
 public:
  Permutation(std::uint64_t count, std::uint64_t seed) : count_(count) {
    const std::uint64_t last = count - (count > 0 ? 1 : 0);
    low_bits_ = static_cast<unsigned>(std::bit_width(last)) / 2;
    low_mask_ = (std::uint64_t{1} << low_bits_) - 1;
    highs_ = (last >> low_bits_) + 1;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::uint64_t key = key_of(seed, i);
      keys_[2 * i] = static_cast<std::uint32_t>(key);
      keys_[2 * i + 1] = static_cast<std::uint32_t>(key >> 32);
    }
  }

  std::uint64_t forward(std::uint64_t number) const {
    do {
      std::uint64_t low = number & low_mask_;
      std::uint64_t high = number >> low_bits_;
      low ^= low_by(high, 0);
      high = wrapped(high + high_by(low, 1));
      low ^= low_by(high, 2);
      high = wrapped(high + high_by(low, 3));
      number = high << low_bits_ | low;
    } while (number >= count_);
    return number;
  }

  std::uint64_t back(std::uint64_t number) const {
    do {
      std::uint64_t low = number & low_mask_;
      std::uint64_t high = number >> low_bits_;
      high = wrapped(high + highs_ - high_by(low, 3));
      low ^= low_by(high, 2);
      high = wrapped(high + highs_ - high_by(low, 1));
      low ^= low_by(high, 0);
      number = high << low_bits_ | low;
    } while (number >= count_);
    return number;
  }

 private:
  std::uint64_t f(std::uint64_t half, std::size_t round) const {
    return mixed(static_cast<std::uint32_t>(half) ^ keys_[round]);
  }
  std::uint64_t low_by(std::uint64_t high, std::size_t round) const {
    return f(high, round) & low_mask_;
  }
  std::uint64_t high_by(std::uint64_t low, std::size_t round) const {
    return f(low, round) * highs_ >> 32;
  }
  std::uint64_t wrapped(std::uint64_t high) const { return high < highs_ ? high : high - highs_; }

  std::uint64_t count_;
  unsigned low_bits_;
  std::uint64_t low_mask_;
  std::uint64_t highs_;  // at most 2^32
  std::array<std::uint32_t, 4> keys_;
};

Home hashed(const Permutation& permutation, std::uint32_t servers, std::uint64_t row) {
  const auto [slot, server] = divided(permutation.forward(row), servers);
  return {static_cast<std::uint32_t>(server), slot};
}

// The first `longer` servers have base + 1 rows each, the rest base.
Home ranged(std::uint64_t base, std::uint64_t longer, std::uint64_t row) {
  const std::uint64_t in_longer = longer * (base + 1);
  if (row < in_longer) {
    return {static_cast<std::uint32_t>(row / (base + 1)), row % (base + 1)};
  }
  const std::uint64_t behind = row - in_longer;
  return {static_cast<std::uint32_t>(longer + behind / base), behind % base};
}

}  // namespace

// Servers that have a granule more come last, as the last granule may be a short one.
Range dense_range(std::uint64_t count, std::uint32_t servers, std::uint32_t server) {
  const std::uint64_t granules = count / kGranule + (count % kGranule != 0);
  const Range turned = part(granules, servers, servers - 1 - server);
  const std::uint64_t start = (granules - turned.end()) * kGranule;
  const std::uint64_t end = (granules - turned.start) * kGranule;
  return {std::min(start, count), std::min(end, count) - std::min(start, count)};
}

Home RowPartition::home(std::uint64_t row) const {
  if (kind == Kind::range) return ranged(rows / servers, rows % servers, row);
  return hashed(Permutation(rows, seed), servers, row);
}

std::uint64_t RowPartition::row(Home place) const {
  if (kind == Kind::range) return part(rows, servers, place.server).start + place.slot;
  return Permutation(rows, seed).back(place.slot * servers + place.server);
}

std::uint64_t RowPartition::slots(std::uint32_t server) const {
  return part(rows, servers, server).length;
}

void homes(const RowPartition& partition, std::span<const std::uint64_t> rows,
           std::span<Home> out) {
  if (partition.kind == RowPartition::Kind::range) {
    const std::uint64_t base = partition.rows / partition.servers;
    const std::uint64_t longer = partition.rows % partition.servers;
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = ranged(base, longer, rows[i]);
    return;
  }
  const Permutation permutation(partition.rows, partition.seed);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = hashed(permutation, partition.servers, rows[i]);
  }
}

}  // namespace mls
