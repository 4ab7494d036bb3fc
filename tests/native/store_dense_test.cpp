// A share of a dense array against the rule on plain arrays.
#include <algorithm>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/dense.hpp"

namespace {

using namespace mls;
using Floats = std::vector<float>;

constexpr RuleId kDenseRules[] = {RuleId::sgd, RuleId::momentum, RuleId::adagrad, RuleId::adam,
                                  RuleId::ftrl};

Floats numbers(std::uint64_t key, std::size_t count) {
  Floats x(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(random_bits(key, i)) * 0x1p-31f - 1;
  }
  return x;
}

bool same(std::span<const float> x, std::span<const float> y) { return std::ranges::equal(x, y); }

TEST(a_dense_share_is_updated_as_plain_arrays_are) {
  for (const std::size_t count : {1u, 15u, 1000u, 16384u, 16385u, 50000u}) {
    for (const RuleId id : kDenseRules) {
      Rule rule{.id = id};
      if (id != RuleId::ftrl) rule.weight_decay = 0.1;
      const std::vector<Range> decayed{{0, count / 3}, {count / 2, 0}, {count / 2, count / 4}};
      Dense dense(count, rule, decayed);
      Floats w = numbers(1, count), state(rule_row(id).per_element * count, 0.0f);
      dense.write(0, w);
      for (std::uint64_t t = 1; t <= 3; ++t) {
        const Floats g = numbers(t + 1, count);
        std::vector<bool> decays(count);
        for (const Range range : decayed) {
          std::fill_n(decays.begin() + static_cast<std::ptrdiff_t>(range.start), range.length,
                      true);
        }
        for (std::size_t i = 0; i < count; ++i) {
          update(rule, &w[i], state.data() + i, count, &g[i], 1, 0.1f, t, decays[i]);
        }
        // in two parts, as pushes of tensors come
        const std::size_t cut = count / 5;
        dense.update(cut, std::span(g).subspan(cut), 0.1f, t);
        dense.update(0, std::span(g).first(cut), 0.1f, t);
        CHECK(same(dense.values(), w));
      }
      for (std::size_t k = 0; k < rule_row(id).per_element; ++k) {
        CHECK(same(dense.state(k), std::span(state).subspan(k * count, count)));
      }
    }
  }
}

TEST(a_dense_share_that_is_saved_and_loaded_in_other_shares_goes_on_alike) {
  constexpr std::size_t kCount = 40000;
  for (const RuleId id : kDenseRules) {
    const Rule rule{.id = id};
    Dense whole(kCount, rule, {});
    whole.write(0, numbers(1, kCount));
    whole.update(0, numbers(2, kCount), 0.1f, 1);
    std::vector<std::unique_ptr<Dense>> shares;
    for (const Range range : {Range{0, 17000}, Range{17000, 0}, Range{17000, 23000}}) {
      Floats saved(range.length * whole.floats(Contents::all));
      whole.save(range, Contents::all, saved.data());
      shares.push_back(std::make_unique<Dense>(range.length, rule, std::vector<Range>{}));
      shares.back()->load({0, range.length}, saved.data());
    }
    const Floats g = numbers(3, kCount);
    whole.update(0, g, 0.1f, 2);
    std::size_t start = 0;
    for (const auto& share : shares) {
      share->update(0, std::span(g).subspan(start, share->count()), 0.1f, 2);
      CHECK(same(share->values(), whole.values().subspan(start, share->count())));
      start += share->count();
    }
    CHECK(start == kCount);
  }
}

TEST(blocks_of_a_dense_share_know_when_they_changed) {
  constexpr std::size_t kBlock = 16384;
  Dense dense(3 * kBlock + 5, {}, {});
  CHECK(dense.changed_since(0).empty());
  dense.at_version(3);
  dense.update(kBlock - 1, Floats(2, 1.0f), 0.1f, 1);
  dense.at_version(4);
  dense.write(3 * kBlock + 4, Floats(1, 1.0f));
  const std::vector<Range> after_2{{0, 2 * kBlock}, {3 * kBlock, 5}}, after_3{{3 * kBlock, 5}};
  CHECK(dense.changed_since(2) == after_2);
  CHECK(dense.changed_since(3) == after_3);
  CHECK(dense.changed_since(4).empty());
}

TEST(a_dense_share_takes_hardly_more_memory_than_its_numbers) {
  for (const RuleId id : kDenseRules) {
    const std::size_t count = 1'000'003;
    const Dense dense(count, {.id = id}, {});
    const auto numbers_alone =
        static_cast<double>(count * dense.floats(Contents::all) * sizeof(float));
    CHECK(static_cast<double>(dense.bytes()) < 1.01 * numbers_alone);
  }
}

TEST(a_dense_share_without_elements_does_nothing) {
  Dense dense(0, {.id = RuleId::adam}, {});
  dense.update(0, {}, 0.1f, 1);
  dense.load({0, 0}, nullptr);
  CHECK(dense.values().empty() && dense.changed_since(0).empty());
  Snapshot snapshot = dense.snapshot();
  Piece piece;
  CHECK(!snapshot.next(piece));
}

TEST(a_dense_share_refuses_what_makes_no_sense) {
  const auto refused = [](const Rule& rule, std::vector<Range> decayed) {
    try {
      const Dense dense(10, rule, std::move(decayed));
    } catch (const Failure& failure) {
      return failure.kind() == FailureKind::config;
    }
    return false;
  };
  CHECK(refused({.id = RuleId::row_adagrad}, {}));
  CHECK(refused({.id = RuleId::lazy_adam}, {}));
  CHECK(refused({.weight_decay = -1}, {}));
  CHECK(refused({}, {{0, 11}}));
  CHECK(refused({}, {{11, 0}}));
  CHECK(refused({}, {{5, 2}, {6, 1}}));
  CHECK(refused({}, {{2, ~std::uint64_t{0}}}));
  CHECK(!refused({}, {{0, 5}, {5, 5}}));
}

}  // namespace
