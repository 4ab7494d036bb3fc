// Every rank learns whether all ranks are about to do the same thing, before data moves.
//
// Dissemination (Hensgen, Finkel, Manber 1988): in round k, rank r sends what it knows to rank
// r + 2^k; after ceil(log2 P) rounds everybody knows the smallest and the largest value of every
// field, and the lowest ranks that have them. As minima are idempotent, any P works. Also serves
// as the barrier. Small arrays travel along (Bruck et al. 1997): after round k a rank has those of
// the 2^(k+1) ranks up to itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "comm/transport.hpp"

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

// All arrays of an agreement together.
constexpr std::size_t kTravelsAlong = 16 * 1024;

// Throws the same Failure on every rank when intents or numbers differ or a rank has a fault;
// Failure(timeout) when a rank does not come.
//
// small: this rank's array, or empty. gathered: memory for the arrays of all ranks, of at most
// kTravelsAlong bytes; afterwards that of rank r is at (rank - r) mod size.
void agree(Transport& transport, const Intent& intent, std::uint32_t sequence, Deadline deadline,
           std::span<const std::byte> small = {}, std::span<std::byte> gathered = {});

// The same judgement where every rank already knows what all are about to do, in their order.
void compare(std::span<const Caller> callers);

// The failure of a rank that has a fault and may not tell the others.
[[noreturn]] void refuse(Fault fault, int rank);

}  // namespace mls
