// Every element and row is in one place, and back.
#include <algorithm>
#include <numeric>
#include <vector>

#include "codec/random.hpp"
#include "harness.hpp"
#include "store/partition.hpp"

namespace {

using namespace mls;
using Kind = RowPartition::Kind;

TEST(dense_ranges_follow_each_other_and_differ_by_a_granule) {
  std::vector<std::uint64_t> counts(200);
  std::iota(counts.begin(), counts.end(), 0);
  counts.insert(counts.end(), {1000, 4096, 65537, 1u << 30, (std::uint64_t{1} << 40) + 5});
  for (const std::uint64_t count : counts) {
    for (std::uint32_t servers = 1; servers <= 9; ++servers) {
      std::uint64_t next = 0, least = count, most = 0;
      for (std::uint32_t server = 0; server < servers; ++server) {
        const Range range = dense_range(count, servers, server);
        CHECK(range.start == next && (range.length == 0 || range.start % kGranule == 0));
        next = range.end();
        least = std::min(least, range.length);
        most = std::max(most, range.length);
      }
      CHECK(next == count);
      CHECK(most - least <= kGranule);
    }
  }
}

std::vector<RowPartition> partitions(std::uint64_t rows) {
  std::vector<RowPartition> all;
  for (std::uint32_t servers = 1; servers <= 9; ++servers) {
    all.push_back({rows, servers, Kind::range, 0});
    for (const std::uint64_t seed : {0u, 1u, 77u}) all.push_back({rows, servers, Kind::hash, seed});
  }
  return all;
}

TEST(every_row_is_in_one_place_and_servers_are_balanced) {
  for (std::uint64_t rows = 0; rows < 70; ++rows) {
    for (const RowPartition& partition : partitions(rows)) {
      std::vector<std::vector<int>> taken(partition.servers);
      std::uint64_t all = 0;
      for (std::uint32_t server = 0; server < partition.servers; ++server) {
        taken[server].resize(partition.slots(server));
        all += partition.slots(server);
        CHECK(partition.slots(server) - rows / partition.servers <= 1);
      }
      CHECK(all == rows);
      for (std::uint64_t row = 0; row < rows; ++row) {
        const Home place = partition.home(row);
        CHECK(place.server < partition.servers);
        CHECK(place.slot < partition.slots(place.server));
        CHECK(taken[place.server][place.slot]++ == 0);
        CHECK(partition.row(place) == row);
      }
    }
  }
}

TEST(ranges_of_rows_ascend) {
  const RowPartition partition{1003, 7, Kind::range, 0};
  Home last = partition.home(0);
  CHECK(last == (Home{0, 0}));
  for (std::uint64_t row = 1; row < 1003; ++row) {
    const Home place = partition.home(row);
    CHECK(place.server == last.server ? place.slot == last.slot + 1
                                      : place.server == last.server + 1 && place.slot == 0);
    last = place;
  }
}

TEST(many_places_are_those_of_one_row_each) {
  for (const std::uint64_t rows : {std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{1} << 33}) {
    for (const RowPartition& partition : partitions(rows)) {
      std::vector<std::uint64_t> asked;
      for (std::uint64_t i = 0; i < 100; ++i) asked.push_back(key_of(5, i) % rows);
      std::vector<Home> found(asked.size());
      homes(partition, asked, found);
      for (std::size_t i = 0; i < asked.size(); ++i) {
        CHECK(found[i] == partition.home(asked[i]));
        CHECK(found[i].slot < partition.slots(found[i].server));
        CHECK(partition.row(found[i]) == asked[i]);
      }
    }
  }
}

TEST(ten_million_rows_are_permuted) {
  const RowPartition partition{10'000'000, 4, Kind::hash, 3};
  std::vector<bool> taken(partition.rows);
  std::vector<std::uint64_t> asked(10'000);
  std::vector<Home> found(asked.size());
  for (std::uint64_t row = 0; row < partition.rows; row += asked.size()) {
    std::iota(asked.begin(), asked.end(), row);
    homes(partition, asked, found);
    for (const Home place : found) {
      CHECK(place.slot < partition.rows / 4 && place.server < 4);
      const std::uint64_t at = 4 * place.slot + place.server;
      CHECK(!taken[at]);
      taken[at] = true;
    }
  }
}

// Of any rows that are asked for together, each server has about its share, and rows that were
// neighbours are so no more.
TEST(hashing_spreads_the_first_rows_and_those_at_equal_distances) {
  constexpr std::uint64_t kRows = 1'000'003;
  for (const std::uint64_t seed : {0u, 1u, 2u}) {
    for (const std::uint32_t servers : {2u, 5u, 8u}) {
      for (const std::uint64_t stride : {1u, 2u, 8u, 64u}) {
        const RowPartition partition{kRows, servers, Kind::hash, seed};
        std::vector<int> load(servers);
        for (std::uint64_t i = 0; i < 8000; ++i) ++load[partition.home(i * stride).server];
        const double share = 8000.0 / servers;
        for (const int rows : load) CHECK(rows > share * 0.8 && rows < share * 1.2);
      }
    }
  }
}

TEST(seeds_give_different_places) {
  const RowPartition one{1000, 3, Kind::hash, 1}, other{1000, 3, Kind::hash, 2};
  int same = 0;
  for (std::uint64_t row = 0; row < 1000; ++row) same += one.home(row) == other.home(row);
  CHECK(same < 20);
}

TEST(the_largest_numbers_of_rows_have_places_too) {
  for (const std::uint64_t rows : {~std::uint64_t{0}, (std::uint64_t{1} << 63) + 1,
                                   std::uint64_t{1} << 32, (std::uint64_t{1} << 32) - 1}) {
    for (const Kind kind : {Kind::range, Kind::hash}) {
      const RowPartition partition{rows, 7, kind, 9};
      for (const std::uint64_t row : {std::uint64_t{0}, std::uint64_t{1}, rows / 2, rows - 1}) {
        CHECK(partition.row(partition.home(row)) == row);
      }
    }
  }
}

}  // namespace
