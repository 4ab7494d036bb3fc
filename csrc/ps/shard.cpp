#include "ps/shard.hpp"

#include <algorithm>
#include <utility>

#include "base/reduce.hpp"
#include "store/merge.hpp"

namespace mls {
namespace {

// Elements that are updated before anybody hears of it: they stay in a cache.
constexpr std::uint64_t kPart = (1 << 18) / sizeof(float);

}  // namespace

Shard::Shard(std::vector<TableSpec> tables, int workers, std::uint32_t server,
             std::uint32_t servers)
    : workers_(workers) {
  for (TableSpec& spec : tables) {
    Share table{.spec = spec,
                .count = 0,
                .own = 0,
                .clocks = {workers, spec.consistency, spec.staleness},
                .dense = nullptr,
                .rows = nullptr};
    if (spec.kind == TableSpec::Kind::dense) {
      const Range own = dense_range(spec.count, servers, server);
      std::vector<Range> decayed;
      for (const Range range : spec.decayed) {
        const std::uint64_t start = std::max(range.start, own.start);
        const std::uint64_t stop = std::min(range.start + range.length, own.start + own.length);
        if (start < stop) decayed.push_back({start - own.start, stop - start});
      }
      table.count = table.own = own.length;
      table.dense = std::make_unique<Dense>(own.length, spec.rule, std::move(decayed));
    } else {
      const RowPartition partition = spec.rows(servers);
      const std::vector<std::uint64_t> behind = spec.replicas(servers).behind(server);
      table.own = partition.slots(server);
      table.count = table.own + behind.size();
      table.rows = std::make_unique<Rows>(table.count, spec.width, spec.rule);
      table.rows->initialise(spec.initial, [&](std::uint64_t slot) {
        return slot < table.own ? partition.row({server, slot}) : behind[slot - table.own];
      });
    }
    tables_.push_back(std::move(table));
  }
}

bool Shard::whole(const Share& table, const Gathered& step) const {
  for (int worker = 0; worker < workers_; ++worker) {
    const bool here = worker < step.added || step.pushes[static_cast<std::size_t>(worker)];
    if (!here && !table.clocks.has_left(worker)) return false;
  }
  return true;
}

bool Shard::completes(std::size_t index, int worker) const {
  const Share& table = tables_[index];
  for (int other = 0; other < workers_; ++other) {
    if (other == worker || table.clocks.has_left(other)) continue;
    if (table.clocks.turn(other, table.clocks.applied()) == Clocks::Turn::next) return false;
  }
  return table.clocks.turn(worker, table.clocks.applied()) == Clocks::Turn::next;
}

void Shard::push(std::size_t index, int worker, Push push, const Updated& updated) {
  Share& table = tables_[index];
  table.clocks.pushed(worker);
  if (table.spec.consistency != Consistency::bsp) {
    apply(table, push, updated);
    pool_.give(std::move(push.values));
    return;
  }
  const std::size_t ahead = push.step - table.clocks.applied();
  while (table.steps.size() <= ahead) {
    table.steps.push_back(
        {.pushes = std::vector<std::optional<Push>>(static_cast<std::size_t>(workers_)),
         .sum = std::nullopt});
  }
  table.steps[ahead].pushes[static_cast<std::size_t>(worker)] = std::move(push);
  add_up(table, table.steps[ahead]);
  complete(table, updated);
}

void Shard::leave(int worker, const Updated& updated) {
  for (Share& table : tables_) {
    table.clocks.left(worker);
    for (Gathered& step : table.steps) add_up(table, step);
    complete(table, updated);
  }
}

void Shard::resume_at(std::size_t index, std::uint64_t updates, std::uint64_t steps) {
  tables_[index].updates = updates;
  tables_[index].steps.clear();
  tables_[index].clocks.reset(steps);
}

// Adds what follows in the order of the workers, as far as it is there.
void Shard::add_up(Share& table, Gathered& step) {
  if (!table.dense) return;
  for (; step.added < workers_; ++step.added) {
    std::optional<Push>& next = step.pushes[static_cast<std::size_t>(step.added)];
    if (!next) {
      if (table.clocks.has_left(step.added)) continue;
      return;
    }
    if (!step.sum) {
      step.sum = std::move(next);
    } else {
      reduce(ReduceOp::sum, DType::f32, step.sum->values.bytes().data(),
             next->values.bytes().data(), table.count);
      pool_.give(std::move(next->values));
    }
    next.reset();
  }
}

void Shard::complete(Share& table, const Updated& updated) {
  while (!table.steps.empty() && whole(table, table.steps.front())) {
    Gathered& step = table.steps.front();
    if (table.dense) {
      if (step.sum) {
        apply(table, *step.sum, updated);
        pool_.give(std::move(step.sum->values));
      }
    } else {
      std::vector<RowsPush> parts;
      Push sum;
      for (const std::optional<Push>& push : step.pushes) {
        if (!push) continue;
        if (parts.empty()) sum.rate = push->rate;
        parts.push_back({push->slots, push->values.floats()});
      }
      std::vector<float> sums;
      merge(parts, table.spec.width, sum.slots, sums);
      table.rows->at_version(version_of(++table.updates));
      table.rows->update(sum.slots, sums, sum.rate, table.updates);
      for (std::optional<Push>& push : step.pushes) {
        if (push) pool_.give(std::move(push->values));
      }
    }
    table.steps.pop_front();
    table.clocks.apply();
  }
}

void Shard::apply(Share& table, Push& push, const Updated& updated) {
  const std::uint64_t step = ++table.updates;
  const std::span<const float> values = push.values.floats();
  if (table.rows) {
    table.rows->at_version(version_of(step));
    const std::span<const std::uint32_t> slots = push.slots;
    if (std::ranges::adjacent_find(slots, std::greater_equal{}) == slots.end()) {
      table.rows->update(slots, values, push.rate, step);
      return;
    }
    const RowsPush alone{slots, values};
    std::vector<std::uint32_t> merged;
    std::vector<float> sums;
    merge({&alone, 1}, table.spec.width, merged, sums);
    table.rows->update(merged, sums, push.rate, step);
    return;
  }
  table.dense->at_version(version_of(step));
  for (std::uint64_t start = 0; start < table.count; start += kPart) {
    const std::uint64_t length = std::min(kPart, table.count - start);
    table.dense->update(start, values.subspan(start, length), push.rate, step);
    updated({start, length});
  }
}

}  // namespace mls
