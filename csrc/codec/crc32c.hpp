// CRC32C (Castagnoli), the checksum of iSCSI, RFC 3720 section 12.1; in hardware where there is
// one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mls {

// before: the checksum of what comes before these bytes.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace mls
