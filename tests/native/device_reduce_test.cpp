// Reductions of the device, run on the host: the numbers of base/reduce.hpp.
#include <cmath>
#include <cstring>
#include <vector>

#include "codec/random.hpp"
#include "cuda/host.hpp"
#include "cuda/reduce.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

using Bytes = std::vector<std::byte>;

// Numbers of the dtype that are not NaN; of floats also infinities and subnormals.
Bytes numbers(DType dtype, std::size_t count, std::uint64_t key) {
  Bytes bytes(count * size_of(dtype));
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t bits = random_bits(key, i);
    const float value =
        bits % 97 == 0 ? 1e30f : std::ldexp(static_cast<float>(bits % 4001) - 2000, -9);
    std::byte* const at = bytes.data() + i * size_of(dtype);
    if (dtype == DType::f32) {
      std::memcpy(at, &value, 4);
    } else if (dtype == DType::f64) {
      const double wide = value;
      std::memcpy(at, &wide, 8);
    } else if (dtype == DType::f16) {
      const auto half = static_cast<std::uint16_t>(bits % 0x7c01 | (bits >> 16 & 0x8000u));
      std::memcpy(at, &half, 2);
    } else if (dtype == DType::bf16) {
      const auto half = static_cast<std::uint16_t>(bits % 0x7f81 | (bits >> 16 & 0x8000u));
      std::memcpy(at, &half, 2);
    } else {
      for (std::size_t k = 0; k < size_of(dtype); ++k) {
        at[k] = static_cast<std::byte>(random_bits(key + k, i));
      }
    }
  }
  return bytes;
}

TEST(device_reductions_are_those_of_the_host) {
  for (std::size_t type = 0; type < kDTypes.size(); ++type) {
    const auto dtype = static_cast<DType>(type);
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::product}) {
      for (const std::size_t blocks : {1, 2, 3, 4, 7, 8}) {
        for (const std::size_t count : {0, 1, 5, 4099}) {
          for (const Order order : {Order::any, Order::tree}) {
            const int divisor = is_float(dtype) && op == ReduceOp::sum ? 3 : 1;
            std::vector<Bytes> all;
            std::vector<const std::byte*> from;
            for (std::size_t block = 0; block < blocks; ++block) {
              all.push_back(numbers(dtype, count + 1, 10 * block + type));
              // every second time away from where a packed access may start
              from.push_back(all.back().data() + (count % 2) * size_of(dtype));
            }
            Bytes wanted(count * size_of(dtype));
            std::vector<Bytes> got(2, Bytes(count * size_of(dtype)));
            std::byte* const one[]{wanted.data()};
            std::byte* const two[]{got[0].data(), got[1].data()};
            const Combine how{dtype, op, divisor, order};
            reduce_blocks(how, from, one, count);
            device::HostMachine machine;
            device::reduce_blocks(machine, dtype, device::blocks_of(how, from, two, count));
            CHECK(got[0] == wanted && got[1] == wanted);
          }
        }
      }
    }
  }
}

}  // namespace
