// What a rank is about to do, and the judgement whether all ranks are about to do the same.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/reduce.hpp"
#include "comm/choice.hpp"

namespace mls {

enum class Operation : std::uint8_t {
  barrier,
  all_reduce,
  broadcast,
  all_gather,
  reduce_scatter,
  all_to_all,
  compressed_all_reduce
};

// Why a rank cannot take part although it was called.
enum class Fault : std::uint8_t {
  none,
  not_an_array,
  not_contiguous,
  read_only,
  unsupported_dtype,
  foreign_byte_order,
  unknown_operation,
  bad_root,
  wrong_size,
  unknown_algorithm,
  average_of_integers,
  several_nodes,
  no_fixed_order
};

struct Intent {
  Operation operation = Operation::barrier;
  int dtype = 0;            // DType, or a negative code of what is only copied
  int detail = 0;           // what is reduced to, or the root
  std::uint64_t count = 0;  // elements of an all-reduce, else bytes
  std::uint64_t segment = 0;
  Algorithm algorithm = Algorithm::automatic;
  Order order = Order::any;
  Fault fault = Fault::none;

  bool operator==(const Intent&) const = default;
};

// A rank's intent, and the number of its collective.
struct Caller {
  Intent intent;
  std::uint32_t sequence = 0;

  bool operator==(const Caller&) const = default;
};

constexpr int kAverage = 4;  // as a detail, beside the values of ReduceOp

// What is known of some ranks' intents: of every field the smallest and the largest value, and the
// lowest ranks that have them. Minima are idempotent: the same rank may be added twice.
class Known {
 public:
  Known(const Intent& intent, std::uint32_t sequence, int rank);

  void add(const Known& other);
  bool alike() const;

  // Throws Failure(config) unless all are alike; the same on every rank that knows of all.
  void judge() const;

 private:
  static constexpr std::size_t kFields = 8;

  std::array<std::int64_t, kFields> least_;
  std::array<std::int64_t, kFields> most_;  // negated, so that it is a minimum too
  std::int64_t fault_;                      // the lowest faulty rank and its fault
};

// The judgement where every rank already knows what all are about to do, in their order.
void compare(std::span<const Caller> callers);

// The failure of a rank that has a fault and may not tell the others.
[[noreturn]] void refuse(Fault fault, int rank);

}  // namespace mls
