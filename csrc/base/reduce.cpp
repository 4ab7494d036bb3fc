#include "base/reduce.hpp"

#include <atomic>

#include "base/reduce_table.hpp"

namespace mls {
namespace {

struct Level {
  std::string_view name;
  const KernelTable* kernels;
};

std::vector<Level> supported() {
  std::vector<Level> levels{{"baseline", &kBaselineKernels}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (avx2) levels.push_back({"avx2", &kAvx2Kernels});
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    levels.push_back({"avx512", &kAvx512Kernels});
  }
#endif
  return levels;
}

std::atomic<const KernelTable*>& chosen() {
  static std::atomic<const KernelTable*> table{supported().back().kernels};
  return table;
}

}  // namespace

void reduce(ReduceOp op, DType dtype, std::byte* into, const std::byte* from, std::size_t count) {
  const KernelTable* table = chosen().load(std::memory_order_relaxed);
  table->reduce[static_cast<std::size_t>(op)][static_cast<std::size_t>(dtype)](into, from, count);
}

void reduce_blocks(const Combine& how, std::span<const std::byte* const> from,
                   std::span<std::byte* const> into, std::size_t count) {
  const KernelTable* table = chosen().load(std::memory_order_relaxed);
  table->reduce_blocks[static_cast<std::size_t>(how.op)][static_cast<std::size_t>(how.dtype)](
      {.from = from.data(),
       .blocks = from.size(),
       .into = into.data(),
       .copies = into.size(),
       .count = count,
       .divisor = how.divisor,
       .tree = how.order == Order::tree});
}

void divide(DType dtype, std::byte* data, std::size_t count, int divisor) {
  const KernelTable* table = chosen().load(std::memory_order_relaxed);
  table->divide[static_cast<std::size_t>(dtype)](data, count, divisor);
}

std::vector<std::string_view> isa_levels() {
  std::vector<std::string_view> names;
  for (const Level& level : supported()) names.push_back(level.name);
  return names;
}

std::string_view isa() {
  const KernelTable* table = chosen().load(std::memory_order_relaxed);
  for (const Level& level : supported()) {
    if (level.kernels == table) return level.name;
  }
  return "baseline";
}

bool set_isa(std::string_view name) {
  for (const Level& level : supported()) {
    if (level.name == name) {
      chosen().store(level.kernels, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

}  // namespace mls
