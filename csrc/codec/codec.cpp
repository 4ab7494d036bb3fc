#include "codec/codec.hpp"

#include <string>

#include "base/failure.hpp"
#include "codec/cast.hpp"
#include "codec/low_rank.hpp"
#include "codec/quantise.hpp"
#include "codec/sparse.hpp"

namespace mls {
namespace {

using Table = std::array<const Codec*, kCodecs>;

Table make_table() {
  Table table{};
  for (const Codec& row : kCastCodecs) table[static_cast<std::size_t>(row.id)] = &row;
  for (const Codec& row : kQuantiseCodecs) table[static_cast<std::size_t>(row.id)] = &row;
  for (const Codec& row : kSparseRows) table[static_cast<std::size_t>(row.id)] = &row;
  table[static_cast<std::size_t>(kPowerSgdRow.id)] = &kPowerSgdRow;
  return table;
}

const Table& table() {
  static const Table all = make_table();
  return all;
}

}  // namespace

const Codec& codec_of(CodecId id) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= kCodecs || table()[index] == nullptr) {
    throw Failure(FailureKind::config, "there is no codec of number " + std::to_string(index));
  }
  return *table()[index];
}

Combines combines(const Spec& spec) {
  const bool values_add_up = codec_of(spec.values).combines == Combines::sum;
  return values_add_up ? codec_of(spec.codec).combines : Combines::gather;
}

std::span<const Codec* const> codecs() { return table(); }

std::optional<CodecId> codec_named(std::string_view name) {
  for (const Codec* row : table()) {
    if (row != nullptr && row->name == name) return row->id;
  }
  return std::nullopt;
}

}  // namespace mls
