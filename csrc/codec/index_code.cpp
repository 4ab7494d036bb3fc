#include "codec/index_code.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace mls {
namespace {

constexpr std::size_t kWord = 8;  // bytes

// Eight bytes at `from`, or zeros behind `end`.
std::uint64_t word_at(const std::byte* from, const std::byte* end) {
  std::uint64_t word = 0;
  const auto left = static_cast<std::size_t>(end - from);
  if (left >= kWord) {
    std::memcpy(&word, from, kWord);
  } else {
    std::memcpy(&word, from, left);
  }
  return word;
}

// Appends bits, low ones first, at most 32 at a time.
class BitWriter {
 public:
  explicit BitWriter(std::byte* at) : at_(at) {}

  void append(std::uint64_t bits, unsigned count) {
    word_ |= bits << used_;
    if (used_ + count < 64) {
      used_ += count;
      return;
    }
    std::memcpy(at_, &word_, kWord);
    at_ += kWord;
    const unsigned written = 64 - used_;
    word_ = bits >> written;
    used_ = count - written;
  }

  void finish() { std::memcpy(at_, &word_, bytes_for(used_)); }

 private:
  std::byte* at_;
  std::uint64_t word_ = 0;
  unsigned used_ = 0;
};

}  // namespace

std::size_t encode_indices(std::span<const std::uint32_t> indices, std::size_t n, std::byte* code) {
  const std::size_t k = indices.size();
  if (k == 0) return 0;
  const unsigned low = low_bits(k, n);
  const std::uint32_t mask = (std::uint32_t{1} << low) - 1;
  BitWriter lows(code);
  for (const std::uint32_t index : indices) lows.append(index & mask, low);
  lows.finish();

  std::byte* const bitmap = code + low_bytes(k, n);
  const std::size_t bytes = bytes_for(bitmap_bits(k, n));
  std::memset(bitmap, 0, bytes);
  std::size_t start = 0;  // byte of the current word
  std::uint64_t word = 0;
  const auto flush = [&] { std::memcpy(bitmap + start, &word, std::min(kWord, bytes - start)); };
  for (std::size_t i = 0; i < k; ++i) {
    const std::uint64_t position = (indices[i] >> low) + i;
    if (position / 64 * kWord != start) {
      flush();
      start = position / 64 * kWord;
      word = 0;
    }
    word |= std::uint64_t{1} << position % 64;
  }
  flush();
  return low_bytes(k, n) + bytes;
}

bool check_indices(std::span<const std::byte> code, std::size_t k, std::size_t n) {
  if (k > n || n > kMostElements || code.size() != index_code_size(k, n)) return false;
  if (k == 0) return true;
  const auto unused_are_zero = [](std::span<const std::byte> bytes, std::size_t bits) {
    return bits % 8 == 0 || std::to_integer<unsigned>(bytes.back()) >> bits % 8 == 0;
  };
  const auto lows = code.first(low_bytes(k, n));
  const auto bitmap = code.subspan(lows.size());
  if (!unused_are_zero(lows, k * low_bits(k, n))) return false;
  if (!unused_are_zero(bitmap, bitmap_bits(k, n))) return false;
  std::size_t set = 0;
  for (std::size_t at = 0; at < bitmap.size(); at += kWord) {
    set += static_cast<std::size_t>(
        std::popcount(word_at(bitmap.data() + at, bitmap.data() + bitmap.size())));
  }
  if (set != k) return false;
  // no index can be out of uint32 now: its high part is at most that of n - 1
  IndexReader reader(code.data(), k, n);
  std::array<std::uint32_t, 512> block;
  std::uint64_t least = 0;
  while (const std::size_t count = reader.read(block.data(), block.size())) {
    for (std::size_t i = 0; i < count; ++i) {
      if (block[i] < least) return false;
      least = std::uint64_t{block[i]} + 1;
    }
  }
  return least <= n;
}

IndexReader::IndexReader(const std::byte* code, std::size_t k, std::size_t n)
    : code_(code),
      bytes_(index_code_size(k, n)),
      count_(k),
      low_(k == 0 ? 0 : low_bits(k, n)),
      next_(k == 0 ? 0 : low_bytes(k, n)) {}

std::uint64_t IndexReader::low_bits_of(std::size_t i) const {
  const std::size_t bit = i * low_;
  const std::uint64_t word = word_at(code_ + bit / 8, code_ + bytes_);
  return (word >> bit % 8) & ((std::uint64_t{1} << low_) - 1);
}

std::size_t IndexReader::read(std::uint32_t* indices, std::size_t most) {
  const std::size_t count = std::min(most, count_ - done_);
  for (std::size_t i = 0; i < count; ++i, ++done_) {
    while (word_ == 0) {
      word_ = word_at(code_ + next_, code_ + bytes_);
      next_ += kWord;
      start_ += 64;
    }
    const std::uint64_t position = start_ - 64 + static_cast<unsigned>(std::countr_zero(word_));
    word_ &= word_ - 1;
    indices[i] = static_cast<std::uint32_t>((position - done_) << low_ | low_bits_of(done_));
  }
  return count;
}

}  // namespace mls
