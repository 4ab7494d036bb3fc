// The snapshots that workers are reading at a server. No messages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <utility>

#include "store/snapshot.hpp"

namespace mls {

// Snapshots that a worker may read at a time: what is written meanwhile is copied for each.
inline constexpr std::ptrdiff_t kSnapshots = 8;

class KeptSnapshots {
 public:
  struct One {
    std::uint64_t number;
    int worker;
    std::size_t table;
    Snapshot snapshot;
  };
  using Place = std::list<One>::iterator;

  bool full(int worker) const {
    return std::ranges::count(all_, worker, &One::worker) >= kSnapshots;
  }

  // The number of a new one.
  std::uint64_t keep(int worker, std::size_t table, Snapshot snapshot) {
    all_.push_back({++numbers_, worker, table, std::move(snapshot)});
    return numbers_;
  }

  // This worker's snapshot of a table.
  std::optional<Place> find(int worker, std::size_t table, std::uint64_t number) {
    const Place found = std::ranges::find_if(all_, [&](const One& one) {
      return one.worker == worker && one.table == table && one.number == number;
    });
    return found == all_.end() ? std::nullopt : std::optional(found);
  }

  void drop(Place place) { all_.erase(place); }
  void drop_all(int worker) {
    std::erase_if(all_, [&](const One& one) { return one.worker == worker; });
  }

 private:
  std::list<One> all_;
  std::uint64_t numbers_ = 0;  // so far
};

}  // namespace mls
