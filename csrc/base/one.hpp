// Marks functions of one element, which are the same in the kernels of every instruction set and on
// the device.
#pragma once

#if defined(__CUDACC__)
#define MLS_ONE __device__
#else
#define MLS_ONE
#endif
