#include "store/table.hpp"

#include <memory>

namespace mls {
namespace {

std::uint64_t units(std::uint64_t entries, unsigned bits) {
  return (entries >> bits) + ((entries & ((std::uint64_t{1} << bits) - 1)) != 0);
}

}  // namespace

Table::Table(std::uint64_t entries, unsigned granule_bits, unsigned block_bits)
    : entries_(entries),
      granule_bits_(granule_bits),
      block_bits_(block_bits),
      versions_(units(entries, granule_bits) * sizeof(std::uint32_t)) {}

Table::~Table() {
  for (Watch* const watch : watched_) watch->table_is_gone();
}

// Sixteen at a time where all of them are passed over.
std::uint64_t Table::next_granule(std::uint64_t first, std::uint64_t end, std::uint32_t version,
                                  bool later) const {
  constexpr std::uint64_t kTogether = 16;
  const std::uint32_t* const all = versions();
  for (; first + kTogether <= end; first += kTogether) {
    std::uint32_t found = 0;
    for (std::uint64_t i = 0; i < kTogether; ++i) found += all[first + i] > version;
    if (found != (later ? 0 : kTogether)) break;
  }
  while (first < end && (all[first] > version) != later) ++first;
  return first;
}

std::vector<Range> Table::changed_since(std::uint32_t version) const {
  std::vector<Range> changed;
  changed_in({0, entries_}, version, [&](Range range) { changed.push_back(range); });
  return changed;
}

Snapshot Table::snapshot(const SnapshotOptions& options) {
  return Snapshot(std::make_unique<Watch>(*this, options, units(entries_, block_bits_)));
}

}  // namespace mls
