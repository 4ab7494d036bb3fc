#include "comm/balanced.hpp"

#include <algorithm>

#include "codec/frame.hpp"
#include "codec/random.hpp"
#include "codec/sparse.hpp"

namespace mls {

void Selected::add(std::size_t place, float value) {
  places.push_back(static_cast<std::uint32_t>(place));
  values.push_back(value);
}

void Selected::keep(std::size_t most) {
  if (size() <= most) return;
  std::vector<std::uint32_t> kept(most);
  kept.resize(select_top(values, most, false, {}, kept.data()));
  for (std::size_t i = 0; i < kept.size(); ++i) {
    places[i] = places[kept[i]];
    values[i] = values[kept[i]];
  }
  places.resize(kept.size());
  values.resize(kept.size());
}

std::size_t selected_bound(std::size_t values) {
  // an index takes less than five bytes, a value with its share of scales less than six
  return sizeof(FrameHeader) + 64 + 12 * values;
}

std::span<std::byte> write_selected(const Spec& spec, const Selected& chosen, std::size_t count,
                                    Draw draw, std::span<std::byte> frame) {
  std::byte* const payload = frame.data() + sizeof(FrameHeader);
  const std::size_t bytes = write_sparse(chosen.places, chosen.values, count, spec.values, draw,
                                         payload, spec.stochastic);
  return frame.first(seal_frame(spec, count, bytes, frame));
}

Selected read_selected(const Payload& payload) {
  Selected found(sparse_count(payload));
  read_sparse(payload, found.places.data(), found.values.data());
  return found;
}

std::vector<Selected> by_owner(const Selected& all, const Cyclic& layout, std::size_t most) {
  std::vector<Selected> chosen(layout.ranks);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t element = all.places[i];
    chosen[layout.owner(element)].add(layout.place(element), all.values[i]);
  }
  for (Selected& of_owner : chosen) of_owner.keep(most);
  return chosen;
}

Draw draw_for(std::uint64_t key, std::size_t own, std::size_t owner, std::size_t ranks) {
  return {key_of(key, (own + 1) * (ranks + 1) + owner), 0};
}

Spec selection_of(const Spec& spec) {
  return {.codec = CodecId::top_k, .amount = spec.amount, .sampled = spec.sampled};
}

Spec telling_of(const Spec& spec, std::size_t count, std::size_t ranks, std::size_t share) {
  const std::size_t most = most_told(k_of(spec, count), ranks);
  Spec telling = spec;
  telling.sampled = false;
  telling.amount = most < share ? static_cast<double>(most) / static_cast<double>(share) : 1.0;
  return telling;
}

Outgoing outgoing_of(const Spec& spec, std::span<const std::byte> selection, std::size_t count,
                     std::size_t own, std::size_t ranks, std::uint64_t key) {
  const Cyclic layout{count, ranks};
  const Spec plain = selection_of(spec);
  const Selected all = read_selected(open_frame(selection, plain, count).payload);
  const std::vector<Selected> chosen = by_owner(all, layout, most_sent(k_of(spec, count), ranks));
  Outgoing outgoing;
  std::vector<Selected> told;
  for (std::size_t owner = 0; owner < ranks; ++owner) {
    std::vector<std::byte> room(selected_bound(chosen[owner].size()));
    const std::size_t share = layout.share(owner);
    const std::span<const std::byte> frame =
        write_selected(spec, chosen[owner], share, draw_for(key, own, owner, ranks), room);
    told.push_back(read_selected({frame.subspan(sizeof(FrameHeader)), share, spec.values}));
    outgoing.frames.insert(outgoing.frames.end(), frame.begin(), frame.end());
    outgoing.lengths.push_back(frame.size());
  }
  Selected merged;
  std::vector<std::size_t> next(ranks);
  for (const std::uint32_t element : all.places) {  // ascending, as a frame wants them
    const std::size_t owner = layout.owner(element);
    const Selected& of_owner = told[owner];
    const std::size_t i = next[owner];
    if (i == of_owner.size() || of_owner.places[i] != layout.place(element)) continue;
    merged.add(element, of_owner.values[i]);
    ++next[owner];
  }
  outgoing.told.resize(selected_bound(merged.size()));
  outgoing.told.resize(write_selected(plain, merged, count, {}, outgoing.told).size());
  return outgoing;
}

}  // namespace mls
