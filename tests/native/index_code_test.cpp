// Codes of ascending indices: sizes, every index back, and codes that are none.
#include "codec/index_code.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"

namespace {

using namespace mls;
using Indices = std::vector<std::uint32_t>;

constexpr std::size_t kCounts[] = {1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 65536, 1 << 24, 0xffffffff};

// k indices below n: the first, the last, or spread at random.
std::vector<Indices> choices(std::size_t k, std::size_t n) {
  Indices first, last, spread;
  std::set<std::uint32_t> drawn;
  for (std::size_t i = 0; i < k; ++i) {
    first.push_back(static_cast<std::uint32_t>(i));
    last.push_back(static_cast<std::uint32_t>(n - k + i));
  }
  for (std::uint64_t i = 0; drawn.size() < k && k <= n / 2; ++i) {
    drawn.insert(static_cast<std::uint32_t>(random_bits(k + n, i) * std::uint64_t{n} >> 32));
  }
  spread.assign(drawn.begin(), drawn.end());
  if (spread.size() != k) return {first, last};
  return {first, last, spread};
}

std::vector<std::byte> code_of(const Indices& indices, std::size_t n) {
  std::vector<std::byte> code(index_code_size(indices.size(), n));
  CHECK(encode_indices(indices, n, code.data()) == code.size());
  return code;
}

Indices read_all(const std::vector<std::byte>& code, std::size_t k, std::size_t n,
                 std::size_t at_a_time) {
  IndexReader reader(code.data(), k, n);
  Indices all, some(at_a_time);
  while (const std::size_t count = reader.read(some.data(), at_a_time)) {
    all.insert(all.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return all;
}

TEST(indices_come_back_whatever_is_read_at_a_time) {
  for (const std::size_t n : kCounts) {
    for (const std::size_t k : {std::size_t{0}, std::size_t{1}, n / 100, n / 3, n - 1, n}) {
      if (k > n || k > 70000) continue;
      for (const Indices& indices : choices(k, n)) {
        const std::vector<std::byte> code = code_of(indices, n);
        CHECK(check_indices(code, k, n));
        for (const std::size_t at_a_time : {1, 5, 512}) {
          CHECK(read_all(code, k, n, at_a_time) == indices);
        }
      }
    }
  }
}

TEST(the_size_of_a_code_is_that_of_the_formula) {
  CHECK(index_code_size(0, 0) == 0);
  CHECK(index_code_size(0, 1000) == 0);
  CHECK(index_code_size(1, 1) == 1);
  CHECK(index_code_size(1000, 1000) == (1000 + 999 + 7) / 8);
  CHECK(index_code_size(10, 1000) == (10 * 6 + 7) / 8 + (10 + (999 >> 6) + 7) / 8);
  CHECK(index_code_size(0xffffffff, 0xffffffff) == 0x3fffffff + 1);
  for (std::size_t n = 1; n < 400; ++n) {
    for (std::size_t k = 1; k <= n; ++k) {
      CHECK(index_code_size(k - 1, n) <= index_code_size(k, n) + 1);
      CHECK(index_code_size(k, n) <= index_code_size(n, n) + 1);
    }
  }
}

// Of every string of bits exactly those are accepted that some choice of indices has as its code.
TEST(every_code_is_of_one_choice_only) {
  for (const std::size_t n : {1u, 2u, 5u, 9u, 12u}) {
    for (std::size_t k = 0; k <= n; ++k) {
      std::set<std::vector<std::byte>> codes;
      for (std::uint32_t chosen = 0; chosen < 1u << n; ++chosen) {
        Indices indices;
        for (std::uint32_t i = 0; i < n; ++i) {
          if (chosen >> i & 1u) indices.push_back(i);
        }
        if (indices.size() == k) codes.insert(code_of(indices, n));
      }
      std::vector<std::byte> code(index_code_size(k, n));
      if (code.size() > 2) continue;
      for (std::uint32_t bits = 0; bits < 1u << 8 * code.size(); ++bits) {
        for (std::size_t i = 0; i < code.size(); ++i) {
          code[i] = static_cast<std::byte>(bits >> 8 * i & 0xffu);
        }
        CHECK(check_indices(code, k, n) == codes.contains(code));
      }
    }
  }
}

TEST(codes_of_another_length_or_with_flipped_bits_are_not_read_beyond_their_end) {
  for (const std::size_t n : {100u, 5000u}) {
    const Indices indices = choices(n / 10, n).back();
    const std::vector<std::byte> code = code_of(indices, n);
    for (std::size_t length = 0; length < code.size(); ++length) {
      CHECK(!check_indices(std::span(code).first(length), indices.size(), n));
    }
    CHECK(!check_indices(code, n + 1, n));
    for (std::size_t bit = 0; bit < 8 * code.size(); ++bit) {
      std::vector<std::byte> flipped = code;
      flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      if (!check_indices(flipped, indices.size(), n)) continue;
      const Indices other = read_all(flipped, indices.size(), n, 512);
      CHECK(other != indices && other.back() < n && std::ranges::is_sorted(other));
    }
  }
}

}  // namespace
