// One table of kernels per instruction set; filled by reduce_{baseline,avx2,avx512}.cpp.
#pragma once

#include <array>
#include <cstddef>

#include "base/dtype.hpp"
#include "base/reduce.hpp"

namespace mls {

using ReduceFn = void (*)(std::byte*, const std::byte*, std::size_t);
using DivideFn = void (*)(std::byte*, std::size_t, int);

struct BlocksCall {
  const std::byte* const* from;
  std::size_t blocks;
  std::byte* const* into;
  std::size_t copies;
  std::size_t count;
  int divisor;
  bool tree;
};
using BlocksFn = void (*)(const BlocksCall&);

struct KernelTable {
  template <class Fn>
  using ByOpAndType = std::array<std::array<Fn, kDTypes.size()>, 4>;  // [ReduceOp][DType]
  ByOpAndType<ReduceFn> reduce;
  ByOpAndType<BlocksFn> reduce_blocks;
  std::array<DivideFn, kFloats> divide;
};

extern const KernelTable kBaselineKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

}  // namespace mls
