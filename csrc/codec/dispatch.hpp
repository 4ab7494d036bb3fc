// Which of the kernels that are compiled for each instruction set is used.
#pragma once

#include <array>

#include "base/isa.hpp"

#if defined(__x86_64__)
#define MLS_FASTEST(name) (*std::array{&baseline::name, &avx2::name, &avx512::name}[isa_index()])
#else
#define MLS_FASTEST(name) (baseline::name)
#endif
