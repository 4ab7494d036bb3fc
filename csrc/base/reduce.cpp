#include "base/reduce.hpp"

#include <array>

#include "base/isa.hpp"
#include "base/reduce_table.hpp"

namespace mls {
namespace {

#if defined(__x86_64__)
constexpr std::array kTables{&kBaselineKernels, &kAvx2Kernels, &kAvx512Kernels};
#else
constexpr std::array kTables{&kBaselineKernels};
#endif

const KernelTable& table() { return *kTables[isa_index()]; }

}  // namespace

void reduce(ReduceOp op, DType dtype, std::byte* into, const std::byte* from, std::size_t count) {
  table().reduce[static_cast<std::size_t>(op)][static_cast<std::size_t>(dtype)](into, from, count);
}

void reduce_blocks(const Combine& how, std::span<const std::byte* const> from,
                   std::span<std::byte* const> into, std::size_t count) {
  table().reduce_blocks[static_cast<std::size_t>(how.op)][static_cast<std::size_t>(how.dtype)](
      {.from = from.data(),
       .blocks = from.size(),
       .into = into.data(),
       .copies = into.size(),
       .count = count,
       .divisor = how.divisor,
       .tree = how.order == Order::tree});
}

void divide(DType dtype, std::byte* data, std::size_t count, int divisor) {
  table().divide[static_cast<std::size_t>(dtype)](data, count, divisor);
}

}  // namespace mls
