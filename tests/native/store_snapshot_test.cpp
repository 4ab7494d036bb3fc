// Snapshots against copies taken at their moment, while everything changes.
#include <algorithm>
#include <bit>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/dense.hpp"
#include "store/rows.hpp"

namespace {

using namespace mls;
using Floats = std::vector<float>;

// Numbers in a fixed order.
class Dice {
 public:
  explicit Dice(std::uint64_t key) : key_(key) {}
  std::uint32_t operator()(std::uint64_t below) {
    return static_cast<std::uint32_t>(random_bits(key_, next_++) * below >> 32);
  }
  float number() { return static_cast<float>(random_bits(key_, next_++)) * 0x1p-31f - 1; }

 private:
  std::uint64_t key_;
  std::uint64_t next_ = 0;
};

Floats numbers(Dice& dice, std::size_t count) {
  Floats x(count);
  for (float& value : x) value = dice.number();
  return x;
}

// NaN is to come back too.
std::uint32_t bits(float x) { return std::bit_cast<std::uint32_t>(x); }

// A snapshot with what it must turn out to be, range by range.
struct Watched {
  Snapshot snapshot;
  const Table* table;
  Contents contents;
  std::vector<Range> wanted;
  Floats whole;  // of all entries, one by one
  std::vector<Range> given = {};

  static Floats one(const Table& table, std::uint64_t entry, Contents contents) {
    Floats values(table.floats(contents));
    table.save({entry, 1}, contents, values.data());
    return values;
  }

  static Watched of(Table& table, const SnapshotOptions& options) {
    Floats whole;
    for (std::uint64_t entry = 0; entry < table.entries(); ++entry) {
      const Floats values = one(table, entry, options.contents);
      whole.insert(whole.end(), values.begin(), values.end());
    }
    std::vector<Range> wanted{{0, table.entries()}};
    if (options.since) wanted = table.changed_since(*options.since);
    return {table.snapshot(options), &table, options.contents, std::move(wanted), std::move(whole)};
  }

  // Takes the next piece and checks it; false at the end, when nothing may be missing.
  bool next(bool arrays) {
    Piece piece;
    if (!snapshot.next(piece)) {
      CHECK(given == wanted);
      CHECK(snapshot.held_bytes() == 0);
      return false;
    }
    const std::size_t floats = table->floats(contents);
    std::size_t at = 0;
    for (const Range range : piece.ranges) {
      for (std::uint64_t i = 0; i < range.length; ++i) {
        for (std::size_t k = 0; k < floats; ++k) {
          const std::size_t place = arrays ? k * range.length + i : i * floats + k;
          CHECK(bits(piece.values.at(at + place)) ==
                bits(whole.at((range.start + i) * floats + k)));
        }
      }
      at += range.length * floats;
      if (!given.empty() && given.back().end() == range.start) {
        given.back().length += range.length;
      } else {
        given.push_back(range);
      }
    }
    CHECK(at == piece.values.size());
    return true;
  }
};

// Random changes, snapshots begun and read at random, three at a time.
template <class Change>
void run(Table& table, std::uint64_t seed, bool arrays, int rounds, const Change& change) {
  Dice dice(seed);
  std::deque<Watched> open;
  std::uint32_t version = 0;
  int begun = 0, finished = 0;
  for (int round = 0; round < rounds; ++round) {
    if (dice(3) == 0) table.at_version(++version);
    change(dice);
    if (open.size() < 3 && dice(20) == 0) {
      SnapshotOptions options{.contents = dice(2) == 0 ? Contents::parameters : Contents::all};
      if (dice(2) == 0) options.since = version - std::min(version, dice(30));
      open.push_back(Watched::of(table, options));
      ++begun;
    }
    for (auto one = open.begin(); one != open.end();) {
      if (dice(3) == 0 && !one->next(arrays)) {
        one = open.erase(one);
        ++finished;
      } else {
        ++one;
      }
    }
    if (!open.empty() && dice(300) == 0) open.pop_front();  // given up
  }
  while (!open.empty()) {
    while (open.front().next(arrays)) change(dice);
    open.pop_front();
    ++finished;
  }
  CHECK(begun > 5 && finished > 5);
}

TEST(snapshots_of_rows_are_as_the_table_was_while_it_changes) {
  for (const std::uint32_t width : {1u, 5u, 16u, 70u}) {
    const std::uint64_t slots = 30'000 / width + 3;
    Rows rows(slots, width, {.id = RuleId::row_adagrad});
    std::uint64_t step = 0;
    run(rows, width, false, 4000, [&](Dice& dice) {
      const std::uint32_t slot = dice(slots);
      switch (dice(50)) {
        case 0: {
          const Range range{slot, std::min<std::uint64_t>(dice(500), slots - slot)};
          rows.load(range, numbers(dice, range.length * rows.floats(Contents::all)).data());
          break;
        }
        case 1:
          rows.write(std::vector{slot}, numbers(dice, width));
          break;
        default: {
          std::vector<std::uint32_t> some;
          for (std::uint32_t i = 0; i < 20; ++i) some.push_back((slot + i * 97) % slots);
          rows.update(some, numbers(dice, some.size() * width), 0.1f, ++step);
        }
      }
    });
  }
}

TEST(snapshots_of_a_dense_array_are_as_it_was_while_it_changes) {
  for (const std::size_t count : {20'000u, 100'001u}) {
    Dense dense(count, {.id = RuleId::momentum}, {});
    std::uint64_t step = 0;
    run(dense, count, true, 1500, [&](Dice& dice) {
      const std::size_t start = dice(count);
      const std::size_t length =
          std::min<std::size_t>(dice(dice(10) == 0 ? count : 50), count - start);
      switch (dice(50)) {
        case 0:
          dense.load({start, length}, numbers(dice, 2 * length).data());
          break;
        case 1:
          dense.write(start, numbers(dice, length));
          break;
        default:
          dense.update(start, numbers(dice, length), 0.1f, ++step);
      }
    });
  }
}

TEST(the_first_values_of_a_table_do_not_reach_a_snapshot_before) {
  Rows rows(5000, 4, {});
  Watched before = Watched::of(rows, {});
  rows.initialise({Initial::Kind::uniform, 1, 1}, [](std::uint64_t slot) { return slot; });
  CHECK(before.snapshot.held_bytes() > 0);
  while (before.next(false)) {
  }
}

TEST(what_is_not_written_is_not_held_and_what_is_given_up_is_let_go) {
  Rows rows(100'000, 16, {});
  std::optional<Snapshot> snapshot = rows.snapshot();
  CHECK(snapshot->held_bytes() == 0);
  const std::vector<std::uint32_t> some{5, 6, 99'999};
  for (std::uint64_t t = 1; t < 50; ++t) rows.update(some, Floats(48, 1.0f), 0.1f, t);
  const std::uint64_t held = snapshot->held_bytes();
  CHECK(held > 0 && held < 16 * 1024);
  Piece piece;
  CHECK(snapshot->next(piece) && piece.ranges.front().start == 0);
  CHECK(snapshot->held_bytes() < held);  // the blocks of rows 5 and 6 are out
  Snapshot moved = std::move(*snapshot);
  snapshot.reset();
  CHECK(moved.next(piece));
  moved = rows.snapshot();
  CHECK(moved.held_bytes() == 0);
  std::size_t pieces = 0;
  while (moved.next(piece)) ++pieces;
  CHECK(pieces == (100'000 * 16 + kPieceFloats - 1) / kPieceFloats);
  CHECK(!moved.next(piece));
}

TEST(a_snapshot_of_what_changed_holds_nothing_else) {
  Rows rows(100'000, 16, {});
  rows.at_version(1);
  rows.update(std::vector{70u, 90'000u}, Floats(32, 1.0f), 0.1f, 1);
  Watched changed = Watched::of(rows, {.since = 0});
  rows.at_version(2);
  rows.update(std::vector{71u, 5'000u, 90'000u}, Floats(48, 1.0f), 0.1f, 2);
  CHECK(changed.snapshot.held_bytes() < 2 * 200);
  while (changed.next(false)) {
  }
}

TEST(a_snapshot_says_so_where_its_table_is_gone) {
  auto rows = std::make_unique<Rows>(100'000, 16, Rule{});
  Snapshot begun = rows->snapshot(), done = rows->snapshot();
  Piece piece;
  CHECK(begun.next(piece));
  while (done.next(piece)) {
  }
  rows.reset();
  CHECK(!done.next(piece));
  bool thrown = false;
  try {
    begun.next(piece);
  } catch (const std::logic_error&) {
    thrown = true;
  }
  CHECK(thrown);
}

}  // namespace
