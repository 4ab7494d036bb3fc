// Teams of threads of a GPU; team.hpp says what each function does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mls::device {

inline constexpr int kBlockThreads = 256;
inline constexpr unsigned kAllLanes = 0xffffffffu;

template <int kSize>
class CudaTeam {
 public:
  static constexpr int kThreads = kSize;
  static constexpr int kPerBlock = kBlockThreads / kSize;
  static_assert(kSize == 32 || kSize == kBlockThreads);

  template <class T>
  class Each {
   public:
    __device__ T& operator[](int) { return value_; }

   private:
    T value_;
  };

  __device__ explicit CudaTeam(std::size_t teams) : teams_(teams) {}

  __device__ std::size_t number() const {
    return static_cast<std::size_t>(blockIdx.x) * kPerBlock + threadIdx.x / kSize;
  }
  __device__ std::size_t teams() const { return teams_; }

  template <class Body>
  __device__ void all(Body body) {
    body(thread());
    meet();
  }

  __device__ std::uint32_t largest(Each<std::uint32_t>& x) {
    static_assert(kSize == 32);
    return __reduce_max_sync(kAllLanes, x[0]);
  }

  __device__ std::uint32_t votes(Each<std::uint32_t>& x) {
    static_assert(kSize == 32);
    return __ballot_sync(kAllLanes, x[0] != 0);
  }

  __device__ float of(Each<float>& x, int other) {
    static_assert(kSize == 32);
    return __shfl_sync(kAllLanes, x[0], other);
  }

  __device__ std::uint32_t exclusive_sum(Each<std::uint32_t>& x) {
    const std::uint32_t own = x[0];
    std::uint32_t sum = own;
    for (int step = 1; step < 32; step *= 2) {
      const std::uint32_t lower = __shfl_up_sync(kAllLanes, sum, step);
      if (lane() >= step) sum += lower;
    }
    std::uint32_t before = 0;
    std::uint32_t total = 0;
    if constexpr (kSize == 32) {
      total = __shfl_sync(kAllLanes, sum, 31);
    } else {
      __shared__ std::uint32_t warps[kWarps];
      if (lane() == 31) warps[warp()] = sum;
      meet();
      for (int i = 0; i < kWarps; ++i) {
        if (i == warp()) before = total;
        total += warps[i];
      }
      meet();  // before the next sum
    }
    x[0] = before + sum - own;
    return total;
  }

  __device__ std::uint32_t xor_sum(Each<std::uint32_t>& x) {
    static_assert(kSize == kBlockThreads);
    __shared__ std::uint32_t warps[kWarps];
    const std::uint32_t own = __reduce_xor_sync(kAllLanes, x[0]);
    if (lane() == 0) warps[warp()] = own;
    meet();
    std::uint32_t bits = 0;
    for (int i = 0; i < kWarps; ++i) bits ^= warps[i];
    meet();
    return bits;
  }

  __device__ static std::uint32_t add(std::uint32_t* into, std::uint32_t value) {
    return atomicAdd(into, value);
  }
  __device__ static void put_bits(std::byte* into, std::uint32_t bits) {
    atomicOr(reinterpret_cast<std::uint32_t*>(into), bits);
  }
  __device__ static void flip_bits(std::uint32_t* into, std::uint32_t bits) {
    atomicXor(into, bits);
  }

 private:
  static constexpr int kWarps = kBlockThreads / 32;

  __device__ static int thread() { return static_cast<int>(threadIdx.x) % kSize; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }

  __device__ static void meet() {
    if constexpr (kSize == 32) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  const std::size_t teams_;
};

template <class Kernel>
__global__ void __launch_bounds__(kBlockThreads) start(const Kernel kernel, std::size_t teams) {
  using Team = CudaTeam<Kernel::kThreads>;
  __shared__ typename Kernel::Shared shared[Team::kPerBlock];
  Team team(teams);
  if (team.number() >= teams) return;
  kernel(team, shared[threadIdx.x / Kernel::kThreads]);
}

}  // namespace mls::device
