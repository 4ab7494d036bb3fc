// Marks functions of one element, which are the same in the kernels of every instruction set and on
// the device, and functions of kernels of the device alone.
#pragma once

#if defined(__CUDACC__)
#define MLS_ONE __host__ __device__
#define MLS_KERNEL __device__
#else
#define MLS_ONE
#define MLS_KERNEL
#endif

// An address whose numbers are aligned on the device, which else reads them byte by byte; arrays of
// the host need not be.
#if defined(__CUDA_ARCH__)
#define MLS_ALIGNED(T, address) __builtin_assume_aligned(address, alignof(T))
#else
#define MLS_ALIGNED(T, address) (address)
#endif
