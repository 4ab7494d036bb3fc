// Selection against sorting, and what sparse payloads hold.
#include "codec/sparse.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/isa.hpp"
#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "harness.hpp"

namespace {

using namespace mls;
using Indices = std::vector<std::uint32_t>;
using Floats = std::vector<float>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::uint32_t magnitude(float x) { return std::bit_cast<std::uint32_t>(x) & 0x7fffffffu; }

template <class Make>
Floats filled(std::size_t count, Make make) {
  Floats x(count);
  for (std::size_t i = 0; i < count; ++i) x[i] = make(i);
  return x;
}

float uniform(std::size_t i) { return static_cast<float>(random_bits(1, i)) * 0x1p-31f - 1; }

// Arrays that are hard to select from.
std::vector<Floats> arrays(std::size_t count) {
  const auto spike = [=](std::size_t i) { return i % 997 == 3 || i + 1 == count ? uniform(i) : 0; };
  const auto strange = [](std::size_t i) {
    const float kinds[] = {kNan, kInfinity, -kInfinity, -kNan, 0, -0.0f, 1e-45f, -1e-40f, 1, -1};
    return kinds[random_bits(2, i) % std::size(kinds)];
  };
  return {filled(count, uniform),
          filled(count, spike),
          filled(count, strange),
          filled(count, [](std::size_t) { return 0.0f; }),
          filled(count, [](std::size_t) { return -3.0f; }),
          filled(count, [](std::size_t i) { return static_cast<float>(i % 3); }),
          filled(count, [](std::size_t i) { return static_cast<float>(i); }),
          filled(count, [](std::size_t i) { return -1 / static_cast<float>(i + 1); }),
          filled(count, [](std::size_t i) { return 1e-45f * static_cast<float>(i % 100); })};
}

std::vector<std::size_t> some_counts_of(std::size_t n) {
  std::vector<std::size_t> counts{0, 1, 2, n / 1000, n / 100, n / 3, n - 1, n};
  std::erase_if(counts, [&](std::size_t k) { return k > n; });
  return counts;
}

Indices top_by_sorting(const Floats& x, std::size_t k) {
  Indices order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order, std::greater{}, [&](std::uint32_t i) { return magnitude(x[i]); });
  order.resize(k);
  std::ranges::sort(order);
  return order;
}

Indices top(const Floats& x, std::size_t k, bool sampled = false, Draw draw = {}) {
  Indices indices(k);
  Floats values(k);
  indices.resize(select_top(x, k, sampled, draw, indices.data(), values.data()));
  for (std::size_t i = 0; i < indices.size(); ++i) {
    CHECK(magnitude(values[i]) == magnitude(x[indices[i]]));
  }
  return indices;
}

void on_every_instruction_set(const std::function<void()>& body) {
  const std::string_view before = isa();
  for (const std::string_view level : isa_levels()) {
    CHECK(set_isa(level));
    body();
  }
  CHECK(set_isa(before));
}

Payload payload_of(const std::vector<std::byte>& bytes, std::size_t count, const Spec& spec) {
  return {bytes, count, spec.values};
}

std::vector<std::byte> encoded(const Spec& spec, const Floats& x, Draw draw = {7, 0}) {
  const Codec& codec = codec_of(spec.codec);
  std::vector<std::byte> payload(codec.bound(spec, x.size()));
  payload.resize(codec.encode(spec, x, draw, payload.data()));
  CHECK(codec.check(payload_of(payload, x.size(), spec)));
  return payload;
}

Floats decoded(const Spec& spec, const std::vector<std::byte>& payload, std::size_t count) {
  Floats x(count, 99.0f);
  codec_of(spec.codec).decode(payload_of(payload, count, spec), x.data());
  return x;
}

TEST(exact_selection_is_that_of_sorting) {
  on_every_instruction_set([] {
    for (const std::size_t n : {1, 2, 7, 8, 9, 31, 32, 33, 100, 4095, 4097, 20011, 50000}) {
      for (const Floats& x : arrays(n)) {
        for (const std::size_t k : some_counts_of(n)) CHECK(top(x, k) == top_by_sorting(x, k));
      }
    }
  });
}

TEST(a_sampled_selection_has_at_least_half_of_k_and_no_smaller_element) {
  on_every_instruction_set([] {
    for (const std::size_t n : {1, 100, 16384, 16385, 50000}) {
      for (const Floats& x : arrays(n)) {
        for (const std::size_t k : some_counts_of(n)) {
          for (const std::uint64_t key : {1, 2}) {
            const Indices indices = top(x, k, true, {key, 0});
            CHECK(indices.size() <= k && 2 * indices.size() >= k);
            CHECK(indices == top_by_sorting(x, indices.size()));
          }
        }
      }
    }
  });
}

TEST(what_is_above_a_bound_is_selected) {
  on_every_instruction_set([] {
    for (const std::size_t n : {1, 33, 4097, 20011}) {
      for (const Floats& x : arrays(n)) {
        for (const float bound : {0.0f, 0.5f, 1e-44f, 3.0f, std::numeric_limits<float>::max()}) {
          Indices wanted;
          for (std::uint32_t i = 0; i < n; ++i) {
            if (std::abs(x[i]) > bound || std::isnan(x[i])) wanted.push_back(i);
          }
          const Selection above = select_above(x, bound);
          CHECK(std::ranges::equal(wanted, std::span(above.indices.get(), above.count)));
        }
      }
    }
  });
}

TEST(a_top_k_payload_is_of_exact_size_and_holds_the_selection) {
  for (const std::size_t n : {0, 1, 10, 1000, 20011}) {
    const Floats x = filled(n, uniform);
    for (const double amount : {0.001, 0.3, 1.0}) {
      const Spec spec{.codec = CodecId::top_k, .amount = amount};
      const std::vector<std::byte> bytes = encoded(spec, x);
      const Payload payload = payload_of(bytes, n, spec);
      const std::size_t k = k_of(spec, n);
      CHECK(k == std::max<std::size_t>(n > 0, std::lround(amount * static_cast<double>(n))));
      CHECK(bytes.size() == sparse_size(k, n, CodecId::none) && sparse_count(payload) == k);
      Indices indices(k);
      Floats values(k);
      CHECK(read_sparse(payload, indices.data(), values.data()) == k);
      CHECK(indices == top_by_sorting(x, k));
      Floats wanted(n);
      for (const std::uint32_t i : indices) wanted[i] = x[i];
      CHECK(decoded(spec, bytes, n) == wanted);
      std::vector<std::byte> again(bytes.size());
      CHECK(write_sparse(indices, values, n, CodecId::none, {}, again.data()) == again.size());
      CHECK(again == bytes);
    }
  }
}

TEST(random_indices_are_one_of_each_stratum) {
  for (const std::size_t n : {std::size_t{1}, std::size_t{1000}, kMostElements}) {
    for (const std::size_t k : {std::size_t{1}, n / 7, n}) {
      if (k == 0 || k > 10000) continue;
      Indices indices(k);
      draw_indices(5, k, n, indices.data());
      for (std::uint64_t i = 0; i < k; ++i) {
        CHECK(indices[i] >= i * n / k && indices[i] < (i + 1) * n / k);
      }
    }
  }
}

TEST(random_payloads_of_one_draw_add_up) {
  const Spec spec{.codec = CodecId::random_k, .amount = 0.1, .unbiased = true};
  CHECK(combines(spec) == Combines::sum);
  const std::size_t n = 1003;
  const Floats a = filled(n, uniform);
  const Floats b = filled(n, [](std::size_t i) { return uniform(i + 5000); });
  const Floats both = filled(n, [&](std::size_t i) { return a[i] + b[i]; });
  std::vector<std::byte> sum = encoded(spec, a);
  const std::vector<std::byte> other = encoded(spec, b);
  CHECK(std::memcmp(sum.data(), other.data(), kRandomKHeader) == 0);
  for (std::size_t at = kRandomKHeader; at < sum.size(); at += sizeof(float)) {
    float x, y;
    std::memcpy(&x, sum.data() + at, sizeof x);
    std::memcpy(&y, other.data() + at, sizeof y);
    x += y;
    std::memcpy(sum.data() + at, &x, sizeof x);
  }
  const Floats together = decoded(spec, encoded(spec, both), n);
  const Floats added = decoded(spec, sum, n);
  for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(added[i] - together[i]) < 1e-5f);
}

TEST(a_hostile_payload_is_refused_or_decoded_within_its_array) {
  for (const CodecId id : {CodecId::top_k, CodecId::random_k, CodecId::threshold}) {
    for (const Codec* codec : codecs()) {
      if (codec == nullptr) continue;
      const Spec spec{.codec = id, .amount = 0.25, .values = codec->id};
      if (!codec_of(id).accepts(spec)) continue;
      const std::vector<std::byte> good = encoded(spec, filled(100, uniform));
      const auto survives = [&](const std::vector<std::byte>& bytes, std::size_t count) {
        const Payload payload = payload_of(bytes, count, spec);
        if (codec_of(id).check(payload)) decoded(spec, bytes, count);
      };
      for (std::size_t length = 0; length < good.size(); ++length) {
        std::vector<std::byte> cut = good;
        cut.resize(length);
        cut.shrink_to_fit();
        CHECK(!codec_of(id).check(payload_of(cut, 100, spec)));
      }
      for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
        std::vector<std::byte> flipped = good;
        flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        survives(flipped, 100);
      }
      for (const std::size_t count : {0, 1, 24, 25, 26, 99, 101, 1000}) survives(good, count);
      for (const std::uint8_t values : {11, 12, 14, 15, 255}) {
        CHECK(!codec_of(id).check({good, 100, static_cast<CodecId>(values)}));
      }
    }
  }
}

}  // namespace
