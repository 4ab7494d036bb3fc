// CRC32C: the examples of RFC 3720, and hardware against software.
#include "codec/crc32c.hpp"

#include <array>
#include <string_view>
#include <vector>

#include "base/isa.hpp"
#include "codec/random.hpp"
#include "harness.hpp"

namespace {

using namespace mls;

std::vector<std::byte> random_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(random_bits(1, i));
  return bytes;
}

template <class Body>
void on_every_isa(Body body) {
  const std::string_view before = isa();
  for (const std::string_view level : isa_levels()) {
    CHECK(set_isa(level));
    body();
  }
  CHECK(set_isa(before));
}

std::uint32_t checksum_of_32(auto byte_at) {
  std::array<std::byte, 32> bytes;
  for (int i = 0; i < 32; ++i) bytes[static_cast<std::size_t>(i)] = std::byte(byte_at(i));
  return crc32c(bytes);
}

TEST(checksums_of_rfc_3720_appendix_b_4) {
  on_every_isa([] {
    CHECK(crc32c({}) == 0);
    CHECK(checksum_of_32([](int) { return 0; }) == 0x8a9136aa);
    CHECK(checksum_of_32([](int) { return 0xff; }) == 0x62a8ab43);
    CHECK(checksum_of_32([](int i) { return i; }) == 0x46dd794e);
    CHECK(checksum_of_32([](int i) { return 31 - i; }) == 0x113fdb5c);
    std::array<std::byte, 48> read{};  // a SCSI read (10) command
    for (const auto& [at, byte] : {std::pair{0, 0x01},
                                   {1, 0xc0},
                                   {16, 0x14},
                                   {22, 0x04},
                                   {27, 0x14},
                                   {31, 0x18},
                                   {32, 0x28},
                                   {40, 0x02}}) {
      read[static_cast<std::size_t>(at)] = std::byte(byte);
    }
    CHECK(crc32c(read) == 0xd9963a56);
  });
}

TEST(checksums_in_hardware_are_those_in_software) {
  const std::vector<std::byte> bytes = random_bytes(20100);
  const auto check = [&](std::size_t start, std::size_t length) {
    const std::span<const std::byte> part = std::span(bytes).subspan(start, length);
    std::vector<std::uint32_t> sums;
    on_every_isa([&] { sums.push_back(crc32c(part, 0x1234567)); });
    for (const std::uint32_t sum : sums) CHECK(sum == sums[0]);
  };
  for (std::size_t length = 0; length <= 5000; ++length) check(length % 8, length);
  for (std::size_t start = 0; start < 64; ++start) {
    for (const std::size_t length : {63, 6143, 6144, 6145, 12288, 19999}) check(start, length);
  }
}

TEST(a_checksum_goes_on_from_that_of_what_came_before) {
  const std::vector<std::byte> bytes = random_bytes(7000);
  on_every_isa([&] {
    for (const std::size_t cut : {0, 1, 7, 8, 500, 6144, 6999, 7000}) {
      const std::span<const std::byte> all(bytes);
      CHECK(crc32c(all.subspan(cut), crc32c(all.first(cut))) == crc32c(all));
    }
  });
}

}  // namespace
