// Workers and parameter servers as threads, for the tests of csrc/ps.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <vector>

#include "harness.hpp"
#include "ps/client.hpp"
#include "ps/server.hpp"

namespace test {

inline mls::TableSpec dense(std::uint64_t count,
                            mls::Consistency consistency = mls::Consistency::bsp,
                            std::uint32_t staleness = 0) {
  return {.name = "w", .count = count, .consistency = consistency, .staleness = staleness};
}

inline mls::TableSpec rows(std::uint64_t count, std::uint32_t width,
                           mls::Consistency consistency = mls::Consistency::bsp) {
  return {.name = "rows",
          .kind = mls::TableSpec::Kind::rows,
          .count = count,
          .width = width,
          .consistency = consistency};
}

// Servers are the last ranks.
struct Cluster {
  int workers;
  int servers;
  std::vector<mls::TableSpec> tables;
  std::chrono::duration<double> patience = std::chrono::seconds(60);

  std::vector<int> ranks(int first, int count) const {
    std::vector<int> found(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) found[static_cast<std::size_t>(i)] = first + i;
    return found;
  }

  // What the servers counted. A worker that fails ends them.
  std::vector<mls::Server::Counts> run(
      const std::function<void(mls::Client&, int, mls::Transport&)>& work,
      std::chrono::duration<double> timeout = std::chrono::seconds(60)) const {
    std::vector<mls::Server::Counts> counts(static_cast<std::size_t>(servers));
    std::atomic<bool> failed{false};
    const auto failures = on_ranks(workers + servers, [&](mls::Transport& transport) {
      const int rank = transport.rank();
      if (rank >= workers) {
        const auto index = static_cast<std::uint32_t>(rank - workers);
        mls::Server server(transport, tables,
                           {index, static_cast<std::uint32_t>(servers), ranks(0, workers)});
        server.run(timeout, [&] {
          if (failed) server.stop();
        });
        counts[index] = server.counts();
        return;
      }
      mls::Client client(transport, tables, ranks(workers, servers), patience);
      try {
        work(client, rank, transport);
      } catch (...) {
        failed = true;
        throw;
      }
    });
    for (const auto& failure : failures) {
      if (failure) throw std::logic_error(failure->what());
    }
    return counts;
  }
};

inline mls::Deadline soon() { return mls::Clock::now() + std::chrono::seconds(60); }

}  // namespace test
