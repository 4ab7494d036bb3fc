// Snapshots over messages while workers push. Run under the sanitizers.
#include <algorithm>
#include <cmath>
#include <random>

#include "ps_cluster.hpp"

using namespace mls;
using test::Cluster;
using test::contains;
using test::dense;
using test::failure_of;
using test::rows;
using test::soon;

namespace {

// A server's share, by entry; what the snapshot leaves out is NaN.
std::vector<float> share_of(Client& client, std::size_t table, std::uint32_t server,
                            std::uint64_t number) {
  const std::size_t width = client.tables()[table].width;
  std::vector<float> found(client.share(table, server) * width, std::nanf(""));
  while (const std::optional<Piece> piece = client.piece(table, server, number, soon())) {
    const float* from = piece->values.data();
    for (const Range range : piece->ranges) {
      std::copy_n(from, range.length * width, found.data() + range.start * width);
      from += range.length * width;
    }
  }
  return found;
}

}  // namespace

TEST(a_snapshot_has_no_push_by_half_while_workers_go_on) {
  constexpr std::size_t kCount = 100'000;
  constexpr int kSteps = 40;
  for (const Consistency consistency : {Consistency::bsp, Consistency::asp}) {
    TableSpec of_rows_too = rows(5000, 8, consistency);
    of_rows_too.hot = {1, 2, 3, 4998, 4999};  // not twice in a snapshot
    Cluster{3, 2, {dense(kCount, consistency), of_rows_too}}.run(
        [&](Client& client, int worker, Transport&) {
          if (worker == 2) {
            client.observe(soon());
            std::uint64_t updates = 0;
            const std::uint64_t most = consistency == Consistency::bsp ? kSteps : 2 * kSteps;
            while (updates < most) {
              for (std::uint32_t server = 0; server < 2; ++server) {
                for (std::size_t table = 0; table < 2; ++table) {
                  const Client::Begun share = client.snapshot(table, server, {}, soon());
                  const float told = static_cast<float>(share.updates) *
                                     (consistency == Consistency::bsp ? 2.0f : 1.0f);
                  for (const float value : share_of(client, table, server, share.number)) {
                    if (value != told) throw std::logic_error("a push is there by half");
                  }
                  updates = share.updates;
                }
              }
            }
            client.leave(soon());
            return;
          }
          const std::vector<float> gradient(kCount, -1.0f), of_rows(5000 * 8, -1.0f);
          std::vector<std::uint64_t> all(5000);
          for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
          std::vector<float> seen(kCount);
          for (int step = 0; step < kSteps; ++step) {
            client.push(0, 1.0f, gradient, seen);
            client.push_rows(1, 1.0f, all, of_rows);
            client.settle(soon());
          }
          client.leave(soon());
        });
  }
}

TEST(with_bsp_a_worker_that_trains_gets_what_it_has_pushed) {
  Cluster{2, 3, {dense(1000)}}.run([&](Client& client, int worker, Transport&) {
    const std::vector<float> gradient(1000, -1.0f);
    for (int step = 1; step <= 20; ++step) {
      client.push(0, 1.0f, gradient, {});
      client.settle(soon());
      if ((step + worker) % 3) continue;
      for (std::uint32_t server = 0; server < 3; ++server) {
        const Client::Begun share = client.snapshot(0, server, {}, soon());
        CHECK(share.updates == static_cast<std::uint64_t>(step));
        for (const float value : share_of(client, 0, server, share.number)) {
          CHECK(value == 2.0f * static_cast<float>(step));
        }
      }
    }
    client.leave(soon());
  });
}

TEST(a_snapshot_since_a_version_has_what_has_changed) {
  constexpr std::uint64_t kRows = 100'000;
  Cluster{1, 1, {rows(kRows, 4, Consistency::asp)}}.run([&](Client& client, int, Transport&) {
    std::mt19937 random(3);
    std::vector<std::uint64_t> touched(50);
    for (std::uint64_t& row : touched) row = random() % kRows;
    const std::vector<float> gradient(touched.size() * 4, -1.0f);
    const Client::Begun before = client.snapshot(0, 0, {}, soon());
    client.drop(0, 0, before.number, soon());
    client.push_rows(0, 1.0f, touched, gradient);
    const Client::Begun after = client.snapshot(0, 0, before.updates, soon());
    const std::vector<float> found = share_of(client, 0, 0, after.number);
    const RowPartition partition = client.tables()[0].rows(1);
    for (const std::uint64_t row : touched) CHECK(found[partition.home(row).slot * 4] >= 1.0f);
    const auto left_out =
        std::ranges::count_if(found, [](float value) { return std::isnan(value); });
    CHECK(left_out > static_cast<std::ptrdiff_t>(kRows * 4 / 2));
    const Client::Begun nothing = client.snapshot(0, 0, after.updates, soon());
    for (const float value : share_of(client, 0, 0, nothing.number)) CHECK(std::isnan(value));
    client.leave(soon());
  });
}

TEST(snapshots_that_cannot_be_are_refused) {
  Cluster{2, 1, {dense(100, Consistency::asp)}}.run([&](Client& client, int worker, Transport&) {
    const auto wrong = [&](auto body, const char* told) {
      CHECK(contains(failure_of(body), told));
    };
    if (worker == 1) {
      client.observe(soon());
      const std::vector<float> gradient(100);
      client.push(0, 1.0f, gradient, {});
      wrong([&] { client.settle(soon()); }, "only reads");
    }
    wrong([&] { client.snapshot(0, 0, 7, soon()); }, "has had 0 updates, not 7");
    wrong([&] { client.piece(0, 0, 99, soon()); }, "no snapshot 99");
    for (int i = 0; i < kSnapshots; ++i) client.snapshot(0, 0, {}, soon());
    wrong([&] { client.snapshot(0, 0, {}, soon()); }, "reads 8 snapshots already");
    client.leave(soon());
  });
}
