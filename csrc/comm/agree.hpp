// Every rank learns whether all ranks are about to do the same thing, before data moves.
//
// Dissemination (Hensgen, Finkel, Manber 1988): in round k, rank r sends what it knows to rank
// r + 2^k; after ceil(log2 P) rounds everybody knows the smallest and the largest value of every
// field. As minima are idempotent, any P works. Also serves as the barrier.
#pragma once

#include <cstdint>
#include <string>

#include "comm/transport.hpp"

namespace mls {

enum class Operation : std::uint8_t { barrier, all_reduce, broadcast, all_gather };

// Why a rank cannot take part although it was called; 0 means it can.
enum class Fault : std::uint8_t {
  none,
  not_contiguous,
  read_only,
  unsupported_dtype,
  misaligned,
  bad_root,
  wrong_size
};

struct Intent {
  Operation operation = Operation::barrier;
  std::uint64_t count = 0;   // elements
  int dtype = 0;             // DType
  int detail = 0;            // ReduceOp and average, or the root
  Fault fault = Fault::none;
};

// Throws the same Failure(config) on every rank when intents differ or a rank has a fault;
// Failure(timeout) when a rank does not come.
void agree(Transport& transport, const Intent& intent, std::uint32_t sequence, Deadline deadline);

}  // namespace mls
