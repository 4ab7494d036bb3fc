// One table of kernels per instruction set; filled by reduce_{baseline,avx2,avx512}.cpp.
#pragma once

#include <array>
#include <cstddef>

#include "base/dtype.hpp"
#include "base/reduce.hpp"

namespace mls {

using ReduceFn = void (*)(std::byte*, const std::byte*, std::size_t);
using DivideFn = void (*)(std::byte*, std::size_t, int);

struct KernelTable {
  std::array<std::array<ReduceFn, kDTypes.size()>, 3> reduce;  // [ReduceOp][DType]
  std::array<DivideFn, kDTypes.size()> divide;
};

extern const KernelTable kBaselineKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

}  // namespace mls
