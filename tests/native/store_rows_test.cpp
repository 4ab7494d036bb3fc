// Rows of a table against a map of rows, and what a table is at first.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/partition.hpp"
#include "store/rows.hpp"

namespace {

using namespace mls;
using Floats = std::vector<float>;
using Slots = std::vector<std::uint32_t>;

constexpr std::uint32_t kWidths[] = {1, 2, 3, 5, 8, 16, 17, 40, 300, 3000};

Floats numbers(std::uint64_t key, std::size_t count) {
  Floats x(count);
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = static_cast<float>(random_bits(key, i)) * 0x1p-31f - 1;
  }
  return x;
}

Slots drawn(std::uint64_t key, std::size_t count, std::uint64_t below) {
  std::set<std::uint32_t> once;
  for (std::uint64_t i = 0; once.size() < std::min<std::uint64_t>(count, below / 2 + 1); ++i) {
    once.insert(static_cast<std::uint32_t>(random_bits(key, i) * below >> 32));
  }
  Slots slots(once.begin(), once.end());
  if (key % 2 == 0) std::ranges::reverse(slots);
  return slots;
}

TEST(rows_are_updated_as_rows_of_a_map_are) {
  for (std::size_t id = 0; id < kRules; ++id) {
    const Rule rule{.id = static_cast<RuleId>(id)};
    for (const std::uint32_t width : kWidths) {
      const std::uint64_t slots = width > 100 ? 40 : 700;
      const std::size_t state_floats = rule_row(rule.id).state_of(width);
      Rows rows(slots, width, rule);
      std::map<std::uint32_t, Floats> naive;  // parameters, then state
      for (std::uint64_t t = 1; t <= 8; ++t) {
        const Slots some = drawn(t, 100, slots);
        const Floats g = numbers(t + 20, some.size() * width);
        rows.update(some, g, 0.1f, t);
        for (std::size_t i = 0; i < some.size(); ++i) {
          Floats& row = naive[some[i]];
          row.resize(width + state_floats);
          update_row(rule, row.data(), row.data() + width, g.data() + i * width, width, 0.1f, t);
        }
      }
      Slots all(slots);
      std::iota(all.begin(), all.end(), 0u);
      Floats pulled(slots * width);
      rows.pull(all, pulled);
      Floats saved(slots * rows.floats(Contents::all));
      rows.save({0, slots}, Contents::all, saved.data());
      CHECK(rows.floats(Contents::all) == width + state_floats);
      for (std::uint32_t slot = 0; slot < slots; ++slot) {
        Floats expected = naive[slot];
        expected.resize(width + state_floats);
        const auto saved_row = std::span(saved).subspan(slot * expected.size(), expected.size());
        CHECK(std::ranges::equal(saved_row, expected));
        expected.resize(width);
        CHECK(std::ranges::equal(rows.row(slot), expected));
        CHECK(std::ranges::equal(std::span(pulled).subspan(slot * width, width), expected));
      }
    }
  }
}

TEST(rows_that_are_saved_and_loaded_go_on_alike_with_another_number_of_servers) {
  const Rule rule{.id = RuleId::row_adagrad};
  constexpr std::uint32_t kWidth = 6;
  const RowPartition before{500, 3, RowPartition::Kind::hash, 1};
  const RowPartition after{500, 2, RowPartition::Kind::range, 1};
  std::map<std::uint64_t, Floats> records;  // by row
  const auto tables = [&](const RowPartition& partition) {
    std::vector<std::unique_ptr<Rows>> all;
    for (std::uint32_t server = 0; server < partition.servers; ++server) {
      all.push_back(std::make_unique<Rows>(partition.slots(server), kWidth, rule));
    }
    return all;
  };
  const auto step = [&](auto& all, const RowPartition& partition, std::uint64_t t) {
    for (std::uint64_t row = 0; row < partition.rows; row += t + 1) {
      const Home place = partition.home(row);
      const auto slot = static_cast<std::uint32_t>(place.slot);
      all[place.server]->update({&slot, 1}, numbers(row + t, kWidth), 0.1f, t);
    }
  };
  const auto old_tables = tables(before), new_tables = tables(after);
  step(old_tables, before, 1);
  for (std::uint32_t server = 0; server < before.servers; ++server) {
    for (std::uint64_t slot = 0; slot < before.slots(server); ++slot) {
      Floats& record = records[before.row({server, slot})];
      record.resize(kWidth + 1);
      old_tables[server]->save({slot, 1}, Contents::all, record.data());
    }
  }
  for (const auto& [row, record] : records) {
    const Home place = after.home(row);
    new_tables[place.server]->load({place.slot, 1}, record.data());
  }
  step(old_tables, before, 2);
  step(new_tables, after, 2);
  for (std::uint64_t row = 0; row < 500; ++row) {
    const Home was = before.home(row), is = after.home(row);
    CHECK(std::ranges::equal(old_tables[was.server]->row(was.slot),
                             new_tables[is.server]->row(is.slot)));
  }
}

TEST(rows_start_alike_whatever_the_number_of_servers) {
  constexpr std::uint64_t kRows = 200;
  constexpr std::uint32_t kWidth = 7;
  for (const auto kind : {Initial::Kind::zeros, Initial::Kind::uniform, Initial::Kind::normal}) {
    std::vector<Floats> first(kRows);
    for (const std::uint32_t servers : {1u, 2u, 5u}) {
      const RowPartition partition{kRows, servers, RowPartition::Kind::hash, 4};
      for (std::uint32_t server = 0; server < servers; ++server) {
        Rows rows(partition.slots(server), kWidth, {.id = RuleId::adagrad});
        rows.initialise({kind, 0.5f, 11},
                        [&](std::uint64_t slot) { return partition.row({server, slot}); });
        for (std::uint64_t slot = 0; slot < rows.slots(); ++slot) {
          Floats& row = first[partition.row({server, slot})];
          if (servers == 1) row.assign(rows.row(slot).begin(), rows.row(slot).end());
          CHECK(std::ranges::equal(row, rows.row(slot)));
        }
      }
    }
    CHECK((first[0] == first[1]) == (kind == Initial::Kind::zeros));
  }
}

TEST(first_values_have_the_spread_that_was_asked_for) {
  for (const std::size_t width : {1u, 2u, 5u}) {
    for (const auto kind : {Initial::Kind::uniform, Initial::Kind::normal}) {
      double sum = 0, squares = 0, beyond = 0;
      Floats row(width);
      constexpr std::uint64_t kRows = 20000;
      for (std::uint64_t i = 0; i < kRows; ++i) {
        initial_row({kind, 2, 3}, i, row);
        for (const float x : row) {
          sum += x;
          squares += x * x;
          beyond += std::abs(x) > 2;
        }
      }
      const double count = static_cast<double>(kRows * width);
      const bool uniform = kind == Initial::Kind::uniform;
      CHECK(std::abs(sum / count) < 0.06);
      CHECK(std::abs(squares / count / (uniform ? 4.0 / 3 : 4.0) - 1) < 0.05);
      CHECK(uniform ? beyond == 0 : std::abs(beyond / count - 0.317) < 0.015);
    }
  }
}

TEST(rows_know_when_they_changed) {
  Rows rows(1000, 16, {.id = RuleId::row_adagrad});
  rows.at_version(7);
  rows.update(Slots{10, 12, 11, 999}, numbers(1, 64), 0.1f, 1);
  rows.at_version(8);
  rows.write(Slots{11, 0}, numbers(2, 32));
  const std::vector<Range> after_6{{0, 1}, {10, 3}, {999, 1}}, after_7{{0, 1}, {11, 1}};
  CHECK(rows.changed_since(6) == after_6);
  CHECK(rows.changed_since(7) == after_7);
  CHECK(rows.changed_since(8).empty());
  CHECK(std::ranges::equal(rows.row(0), std::span<const float>(numbers(2, 32)).last(16)));
}

// Narrow rows share a version; what is told may be more than what changed, never less.
TEST(all_rows_that_changed_are_told_at_any_width) {
  for (const std::uint32_t width : kWidths) {
    Rows rows(1000, width, {});
    for (std::uint32_t version = 1; version < 5; ++version) {
      rows.at_version(version);
      const Slots some = drawn(version, 30, 1000);
      rows.update(some, Floats(some.size() * width, 1.0f), 0.1f, 1);
      std::set<std::uint64_t> told;
      for (const Range range : rows.changed_since(version - 1)) {
        for (std::uint64_t slot = range.start; slot < range.end(); ++slot) told.insert(slot);
      }
      for (const std::uint32_t slot : some) CHECK(told.contains(slot));
      CHECK(told.size() <= some.size() * std::bit_ceil((15 + width) / width) &&
            *told.rbegin() < 1000);
      if (width >= 16) CHECK(told.size() == some.size());
    }
  }
}

TEST(rows_take_a_tenth_more_memory_than_their_numbers_at_most) {
  for (std::size_t id = 0; id < kRules; ++id) {
    for (const std::uint32_t width : kWidths) {
      const std::uint64_t slots = 3'000'000 / width;
      const Rows rows(slots, width, {.id = static_cast<RuleId>(id)});
      const auto numbers_alone =
          static_cast<double>(slots * rows.floats(Contents::all) * sizeof(float));
      CHECK(static_cast<double>(rows.bytes()) >= numbers_alone);
      CHECK(static_cast<double>(rows.bytes()) < 1.10 * numbers_alone);
    }
  }
}

TEST(slots_of_a_table_are_told_from_others) {
  const Rows rows(1000, 1, {});
  CHECK(rows.fits({}));
  for (const std::uint32_t wrong : {1000u, 1001u, 0x80000000u, 0xffffffffu}) {
    for (const std::size_t at : {0u, 1u, 36u}) {
      Slots some(37, 999);
      CHECK(rows.fits(some));
      some[at] = wrong;
      CHECK(!rows.fits(some));
    }
  }
  CHECK(!Rows(0, 1, {}).fits(Slots{0}) && Rows(0, 1, {}).fits({}));
}

TEST(a_table_that_cannot_be_is_refused) {
  const auto refused = [](std::uint64_t slots, std::uint32_t width, const Rule& rule) {
    try {
      const Rows rows(slots, width, rule);
    } catch (const Failure& failure) {
      return failure.kind() == FailureKind::config;
    }
    return false;
  };
  CHECK(refused((std::uint64_t{1} << 32) + 1, 1, {}));
  CHECK(refused(std::uint64_t{1} << 32, 0xffffffff, {.id = RuleId::adam}));
  CHECK(refused(10, 0, {}));
  CHECK(refused(10, 1, {.id = RuleId::momentum, .momentum = 2}));
  CHECK(!refused(0, 1, {}));
}

}  // namespace
