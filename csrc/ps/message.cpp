#include "ps/message.hpp"

#include <cstring>
#include <type_traits>

#include "codec/crc32c.hpp"

namespace mls {
namespace {

static_assert(std::is_trivially_copyable_v<Message>);

std::uint32_t checksum_of(Message message) {
  message.checksum = 0;
  return crc32c(std::as_bytes(std::span(&message, 1)));
}

}  // namespace

void write_header(Message message, std::span<std::byte> into) {
  message.checksum = checksum_of(message);
  std::memcpy(into.data(), &message, sizeof message);
}

bool read_header(std::span<const std::byte> bytes, Message& message) {
  if (bytes.size() < sizeof message) return false;
  std::array<std::uint8_t, sizeof message> raw;
  std::memcpy(raw.data(), bytes.data(), sizeof message);
  // enumerations are looked at as numbers before they become any
  if (raw[offsetof(Message, verb)] >= kVerbs.size()) return false;
  if (raw[offsetof(Message, status)] > static_cast<std::uint8_t>(Status::late)) return false;
  std::memcpy(&message, raw.data(), sizeof message);
  return message.magic == Message::kMagic && message.version == Message::kVersion &&
         message.checksum == checksum_of(message);
}

}  // namespace mls
