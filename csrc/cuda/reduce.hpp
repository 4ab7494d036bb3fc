// base/reduce.hpp's reduce_blocks on the device: the same numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "base/failure.hpp"
#include "base/reduce.hpp"
#include "comm/topology.hpp"
#include "cuda/dense.hpp"

// after what it needs
#include "base/combine.inc"

namespace mls::device {

inline constexpr std::size_t kMostBlocks = 64;

struct Blocks {
  const std::byte* from[kMostBlocks];
  std::byte* into[kMostBlocks];
  std::uint32_t blocks;
  std::uint32_t copies;
  std::size_t count;  // elements of each
  ReduceOp op;
  int divisor;
  bool tree;
  bool packed;  // all addresses are multiples of 16
};

// How elements become numbers that are combined, and back.
template <class T>
struct AsTheyAre {
  using Stored = T;
  using Number = T;
  MLS_KERNEL static Number widen(Stored x) { return x; }
  MLS_KERNEL static Stored narrow(Number x) { return x; }
};

template <class Format>
struct AsFloats {
  using Stored = std::uint16_t;
  using Number = float;
  MLS_KERNEL static Number widen(Stored x) { return Format::widen_one(x); }
  MLS_KERNEL static Stored narrow(Number x) { return Format::narrow_one(x); }
};

template <class As>
struct ReduceBlocks {
  static constexpr int kThreads = 256;
  using Shared = Nothing;
  using Stored = typename As::Stored;
  using Number = typename As::Number;
  static constexpr std::size_t kPack = 16 / sizeof(Stored);  // elements of a thread at a time
  static constexpr std::uint32_t kAhead = 4;                 // blocks that are read at a time

  Blocks call;

  template <class Team>
  MLS_KERNEL void operator()(Team& team, Shared&) const {
    const std::size_t stride = team.teams() * kThreads * kPack;
    for (std::size_t base = team.number() * kThreads * kPack; base < call.count; base += stride) {
      team.all([&](int thread) {
        const std::size_t start = base + static_cast<std::size_t>(thread) * kPack;
        if (start >= call.count) return;
        const bool whole = call.packed && start + kPack <= call.count;
        const std::size_t length = call.count - start < kPack ? call.count - start : kPack;
        Pack result;
        if (call.tree) {
          for (std::size_t k = 0; k < length; ++k)
            result.at[k] = As::narrow(divided(in_tree(start + k)));
        } else {
          in_order(start, length, whole, result);
        }
        for (std::uint32_t copy = 0; copy < call.copies; ++copy) {
          write(result, call.into[copy] + start * sizeof(Stored), length, whole);
        }
      });
    }
  }

 private:
  struct alignas(16) Pack {
    Stored at[kPack];
  };

  MLS_KERNEL void in_order(std::size_t start, std::size_t length, bool whole, Pack& result) const {
    Number sums[kPack];
    for (std::uint32_t first = 0; first < call.blocks; first += kAhead) {
      Pack next[kAhead];
#pragma unroll
      for (std::uint32_t ahead = 0; ahead < kAhead; ++ahead) {
        if (first + ahead >= call.blocks) break;
        next[ahead] = read(call.from[first + ahead] + start * sizeof(Stored), length, whole);
      }
#pragma unroll
      for (std::uint32_t ahead = 0; ahead < kAhead; ++ahead) {
        if (first + ahead >= call.blocks) break;
        for (std::size_t k = 0; k < kPack; ++k) {
          const Number own = As::widen(next[ahead].at[k]);
          sums[k] = first + ahead == 0 ? own : combined(sums[k], own);
        }
      }
    }
    for (std::size_t k = 0; k < kPack; ++k) result.at[k] = As::narrow(divided(sums[k]));
  }

  // See Order::tree.
  MLS_KERNEL Number in_tree(std::size_t i) const {
    Number values[kMostBlocks];
    std::uint32_t leaves = 1;
    while (2 * leaves <= call.blocks) leaves *= 2;
    const std::uint32_t pairs = call.blocks - leaves;
    for (std::uint32_t leaf = 0; leaf < leaves; ++leaf) {
      values[leaf] = leaf < pairs ? combined(element(2 * leaf, i), element(2 * leaf + 1, i))
                                  : element(leaf + pairs, i);
    }
    for (; leaves > 1; leaves /= 2) {
      for (std::uint32_t k = 0; k < leaves / 2; ++k) {
        values[k] = combined(values[2 * k], values[2 * k + 1]);
      }
    }
    return values[0];
  }

  MLS_KERNEL Number element(std::uint32_t block, std::size_t i) const {
    return As::widen(load<Stored>(call.from[block], i));
  }

  MLS_KERNEL Number combined(Number a, Number b) const {
    switch (call.op) {
      case ReduceOp::min:
        return combine<ReduceOp::min>(a, b);
      case ReduceOp::max:
        return combine<ReduceOp::max>(a, b);
      case ReduceOp::product:
        return combine<ReduceOp::product>(a, b);
      case ReduceOp::sum:
        break;
    }
    return combine<ReduceOp::sum>(a, b);
  }

  MLS_KERNEL Number divided(Number x) const {
    if constexpr (std::is_floating_point_v<Number>) {
      if (call.divisor > 1) return x / static_cast<Number>(call.divisor);
    }
    return x;
  }

  MLS_KERNEL static Pack read(const std::byte* from, std::size_t length, bool whole) {
    Pack pack;
    if (whole) {
      copy16(pack.at, from);
      return pack;
    }
    for (std::size_t k = 0; k < kPack; ++k) {
      pack.at[k] = load<Stored>(from, k < length ? k : 0);
    }
    return pack;
  }

  MLS_KERNEL static void write(const Pack& pack, std::byte* into, std::size_t length, bool whole) {
    if (whole) {
      copy16(into, pack.at);
      return;
    }
    for (std::size_t k = 0; k < kPack; ++k) {
      if (k < length) store(into, k, pack.at[k]);
    }
  }
};

inline Blocks blocks_of(const Combine& how, std::span<const std::byte* const> from,
                        std::span<std::byte* const> into, std::size_t count) {
  if (from.empty() || from.size() > kMostBlocks || into.size() > kMostBlocks) {
    throw Failure(FailureKind::config, "from 1 to " + std::to_string(kMostBlocks) +
                                           " arrays can be reduced at a time on the device, not " +
                                           std::to_string(from.size()));
  }
  Blocks call{};
  call.blocks = static_cast<std::uint32_t>(from.size());
  call.copies = static_cast<std::uint32_t>(into.size());
  call.count = count;
  call.op = how.op;
  call.divisor = how.divisor;
  call.tree = how.order == Order::tree;
  call.packed = true;
  const auto note = [&](const void* address) {
    call.packed = call.packed && reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
  };
  for (std::size_t i = 0; i < from.size(); ++i) note(call.from[i] = from[i]);
  for (std::size_t i = 0; i < into.size(); ++i) note(call.into[i] = into[i]);
  return call;
}

template <class Machine>
void reduce_blocks(Machine& machine, DType dtype, const Blocks& call) {
  const auto run = [&](auto as) {
    using Kernel = ReduceBlocks<decltype(as)>;
    machine.run(ceil_div(call.count, Kernel::kPack * Kernel::kThreads), Kernel{call});
  };
  switch (dtype) {
    case DType::f16:
      return run(AsFloats<Float16>{});
    case DType::bf16:
      return run(AsFloats<BFloat16>{});
    case DType::f32:
      return run(AsTheyAre<float>{});
    case DType::f64:
      return run(AsTheyAre<double>{});
    case DType::i8:
      return run(AsTheyAre<std::int8_t>{});
    case DType::u8:
      return run(AsTheyAre<std::uint8_t>{});
    case DType::i16:
      return run(AsTheyAre<std::int16_t>{});
    case DType::u16:
      return run(AsTheyAre<std::uint16_t>{});
    case DType::i32:
      return run(AsTheyAre<std::int32_t>{});
    case DType::u32:
      return run(AsTheyAre<std::uint32_t>{});
    case DType::i64:
      return run(AsTheyAre<std::int64_t>{});
    case DType::u64:
      return run(AsTheyAre<std::uint64_t>{});
  }
}

}  // namespace mls::device
