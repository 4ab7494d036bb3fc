// All-reduce through shared memory: every size, number of ranks, type and operation.
#include <algorithm>
#include <vector>

#include "comm/board.hpp"
#include "comm/collectives.hpp"
#include "comm/topology.hpp"
#include "comm/window.hpp"
#include "harness.hpp"

using namespace mls;

namespace {

const Options kQuick{.timeout = std::chrono::seconds(20)};

// Memory that all threads map at the same address, so that the thread sanitizer sees every access.
std::shared_ptr<Mapping> memory_of(std::size_t bytes) {
  std::shared_ptr<Mapping> memory;
  test::on_ranks(1, [&](Transport& alone) { memory = share_memory(alone, bytes, kQuick); });
  return memory;
}

// Numbers that depend on rank and index, and are exact in every type.
template <class T>
T value_at(int rank, std::size_t index) {
  return static_cast<T>((static_cast<std::size_t>(rank) * 3 + index * 7) % 11);
}

template <class T>
std::vector<T> expected(int size, std::size_t count, const AllReduce& request) {
  std::vector<T> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    T all = value_at<T>(0, i);
    for (int rank = 1; rank < size; ++rank) {
      const T one = value_at<T>(rank, i);
      if (request.op == ReduceOp::sum) all = static_cast<T>(all + one);
      if (request.op == ReduceOp::min) all = one < all ? one : all;
      if (request.op == ReduceOp::max) all = one > all ? one : all;
      if (request.op == ReduceOp::product) all = static_cast<T>(all * one);
    }
    result[i] = request.average ? static_cast<T>(all / static_cast<T>(size)) : all;
  }
  return result;
}

template <class T>
void fill(std::span<T> data, int rank) {
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = value_at<T>(rank, i);
}

template <class T>
bool equal(std::span<const T> data, const std::vector<T>& wanted) {
  return std::ranges::equal(data, wanted);
}

template <class T>
std::span<T> view(std::span<std::byte> bytes, std::size_t count) {
  return {reinterpret_cast<T*>(bytes.data()), count};
}

struct Shared {
  explicit Shared(int size, std::size_t block_bytes = 0)
      : seats(memory_of(Board::bytes_for(size))),
        blocks(memory_of(Window::bytes_for(size, block_bytes))) {}

  void seat(Transport& transport, bool patient = false) const {
    const Group all = Group::all(transport.rank(), transport.size());
    transport.attach(std::make_shared<Board>(seats, all, patient));
  }

  std::shared_ptr<Mapping> seats;
  std::shared_ptr<Mapping> blocks;
};

template <class T>
void check_all(DType dtype, int size) {
  const std::size_t largest = 3 * kSlotBytes * static_cast<std::size_t>(size) + 1;
  const std::size_t in_slot = kSlotBytes / sizeof(T);
  const auto ranks = static_cast<std::size_t>(size);
  const Shared shared(size, largest * sizeof(T));
  const std::vector<std::size_t> counts{0,       1,           ranks - 1,   ranks,  ranks + 1,
                                        in_slot, in_slot + 1, 2 * in_slot, largest};
  const auto failures = test::on_ranks(size, [&](Transport& transport) {
    shared.seat(transport);
    const int rank = transport.rank();
    const auto window = Window::over(shared.blocks, rank, largest * sizeof(T));
    for (const std::size_t count : counts) {
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max, ReduceOp::product}) {
        for (const bool average : {false, true}) {
          if (average && (op != ReduceOp::sum || !is_float(dtype))) continue;
          const AllReduce request{.dtype = dtype, .op = op, .average = average, .options = kQuick};
          const std::vector<T> wanted = expected<T>(size, count, request);
          std::vector<T> own(count);  // small ones meet, large ones pass through the rooms
          fill<T>(own, rank);
          all_reduce(transport, std::as_writable_bytes(std::span(own)), request);
          CHECK(equal<T>(own, wanted));
          const std::span<T> there = view<T>(window->mine(), count);
          fill<T>(there, rank);
          all_reduce(transport, std::as_writable_bytes(there), request);
          CHECK(equal<T>(there, wanted));
        }
      }
    }
  });
  for (const auto& failure : failures) CHECK(!failure);
}

}  // namespace

TEST(shared_sums_are_right_for_all_sizes_and_types) {
  for (int size = 2; size <= 5; ++size) {
    check_all<float>(DType::f32, size);
    check_all<std::uint8_t>(DType::u8, size);
  }
  check_all<double>(DType::f64, 3);
  check_all<std::int64_t>(DType::i64, 3);
  check_all<float>(DType::f32, 8);
}

TEST(memory_is_shared_between_mappings_of_their_own) {
  const auto failures = test::on_ranks(3, [](Transport& transport) {
    transport.attach(Board::make(transport, Group::all(transport.rank(), 3), true, kQuick));
    CHECK(transport.board() != nullptr);
    const auto window = Window::make(transport, 100'000, kQuick);
    CHECK(window != nullptr);
    const std::span<float> data = view<float>(window->mine(), 25'000);
    for (float& value : data) CHECK(value == 0);
    std::ranges::fill(data, static_cast<float>(transport.rank() + 1));
    all_reduce(transport, std::as_writable_bytes(data), {.options = kQuick});
    for (const float value : data) CHECK(value == 6);
  });
  for (const auto& failure : failures) CHECK(!failure);
}

TEST(arrays_at_different_places_still_add_up) {
  constexpr std::size_t kCount = kSlotBytes;
  const Shared shared(3, 2 * kCount * sizeof(float));
  const auto failures = test::on_ranks(3, [&](Transport& transport) {
    shared.seat(transport);
    const auto window = Window::over(shared.blocks, transport.rank(), 2 * kCount * sizeof(float));
    const std::span<float> all = view<float>(window->mine(), 2 * kCount);
    // rank 1 at another offset, rank 2 in memory of its own
    std::vector<float> own(kCount);
    std::span<float> data = all.subspan(transport.rank() == 1 ? kCount : 0, kCount);
    if (transport.rank() == 2) data = own;
    std::ranges::fill(data, 2.0F);
    all_reduce(transport, std::as_writable_bytes(data), {.options = kQuick});
    for (const float value : data) CHECK(value == 6);
  });
  for (const auto& failure : failures) CHECK(!failure);
}

TEST(parts_and_broadcasts_go_through_the_rooms_and_the_windows) {
  constexpr int kRanks = 3;
  for (const std::size_t count : {5ul, 3000ul, 70'001ul}) {
    const Shared shared(kRanks, count * sizeof(float));
    const auto failures = test::on_ranks(kRanks, [&](Transport& transport) {
      shared.seat(transport);
      const int rank = transport.rank();
      const auto window = Window::over(shared.blocks, rank, count * sizeof(float));
      const AllReduce sum{.options = kQuick};
      const std::vector<float> wanted = expected<float>(kRanks, count, sum);
      const Part own = part_of(count, kRanks, static_cast<std::size_t>(rank));
      std::vector<float> apart(count);
      for (const std::span<float> data : {std::span(apart), view<float>(window->mine(), count)}) {
        const std::span<std::byte> bytes = std::as_writable_bytes(data);
        fill<float>(data, rank);
        reduce_scatter(transport, bytes, 1, sum);
        for (std::size_t i = own.start; i < own.start + own.length; ++i) {
          CHECK(data[i] == wanted[i]);
        }
        std::vector<std::size_t> lengths;
        for (const Part part : parts_of(count, kRanks)) {
          lengths.push_back(part.length * sizeof(float));
        }
        all_gather(transport, bytes.subspan(own.start * sizeof(float), own.length * sizeof(float)),
                   bytes, lengths, 0, kQuick);
        CHECK(equal<float>(data, wanted));
        for (int root = 0; root < kRanks; ++root) {
          fill<float>(data, rank);
          broadcast(transport, bytes, root, 0, kQuick);
          for (std::size_t i = 0; i < count; ++i) CHECK(data[i] == value_at<float>(root, i));
        }
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

// Two nodes of two and three ranks, with a board each.
TEST(hierarchical_sums_over_boards) {
  const std::vector<int> nodes{0, 1, 1, 0, 1};
  const std::vector<int> members[] = {{0, 3}, {1, 2, 4}};
  for (const std::size_t count : {1ul, 4ul, 5000ul, 300'000ul}) {
    const Shared on_node[] = {Shared(2, count * sizeof(float)), Shared(3, count * sizeof(float))};
    const auto failures = test::on_ranks(5, [&](Transport& transport) {
      const int rank = transport.rank();
      const auto node = static_cast<std::size_t>(nodes[static_cast<std::size_t>(rank)]);
      const auto found = std::ranges::find(members[node], rank);
      const int place = static_cast<int>(found - members[node].begin());
      transport.place(nodes);
      transport.attach(
          std::make_shared<Board>(on_node[node].seats, Group{members[node], place}, false));
      const auto window = Window::over(on_node[node].blocks, place, count * sizeof(float));
      const AllReduce average{
          .average = true, .algorithm = Algorithm::hierarchical, .options = kQuick};
      const std::vector<float> wanted = expected<float>(5, count, average);
      std::vector<float> apart(count);
      for (const std::span<float> data : {std::span(apart), view<float>(window->mine(), count)}) {
        fill<float>(data, rank);
        all_reduce(transport, std::as_writable_bytes(data), average);
        CHECK(equal<float>(data, wanted));
      }
    });
    for (const auto& failure : failures) CHECK(!failure);
  }
}

TEST(disagreement_is_seen_on_the_board) {
  const Shared shared(3);
  const auto failures = test::on_ranks(3, [&](Transport& transport) {
    shared.seat(transport);
    std::vector<float> data(transport.rank() == 1 ? 5000 : 3);
    all_reduce(transport, std::as_writable_bytes(std::span(data)), {.options = kQuick});
  });
  for (const auto& failure : failures) {
    CHECK(failure && failure->on_all_ranks() && failure->kind() == FailureKind::config);
    CHECK(
        test::contains(failure->what(), "rank 0 passed 3 elements of float32, rank 1 passed 5000"));
  }
}

TEST(a_rank_that_does_not_come_is_named) {
  const Shared shared(3);
  const auto failures = test::on_ranks(3, [&](Transport& transport) {
    shared.seat(transport, transport.rank() == 0);
    if (transport.rank() == 2) return;
    std::vector<float> data(3);
    const Options hurried{.timeout = std::chrono::milliseconds(100)};
    all_reduce(transport, std::as_writable_bytes(std::span(data)), {.options = hurried});
  });
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(failures[rank] && failures[rank]->kind() == FailureKind::timeout);
    CHECK(failures[rank]->ranks() == std::vector<int>{2});
  }
  CHECK(!failures[2]);
}

TEST(a_window_is_found_by_the_addresses_of_its_own_block) {
  const Shared shared(2, 10'000);
  const auto first = Window::over(shared.blocks, 0, 10'000);
  CHECK(place_of(first->mine()).window == first && place_of(first->mine()).offset == 0);
  CHECK(place_of(first->mine().subspan(5000)).offset == 5000);
  CHECK(place_of({first->block(1), 8}).window == nullptr);
  CHECK(place_of({first->mine().data(), 10'001}).window == nullptr);
  const std::vector<std::byte> other(10);
  CHECK(place_of(other).window == nullptr);
}
