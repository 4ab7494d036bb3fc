#include "ps/replicas.hpp"

namespace mls {

Replicas::Replicas(const RowPartition& partition, const std::vector<std::uint64_t>& hot)
    : homes_(hot.size()), slots_(partition.servers), behind_(partition.servers) {
  homes(partition, hot, homes_);
  for (std::uint32_t server = 0; server < partition.servers; ++server) {
    const std::uint64_t own = partition.slots(server);
    for (std::size_t i = 0; i < hot.size(); ++i) {
      if (homes_[i].server == server) {
        slots_[server].push_back(homes_[i].slot);
      } else {
        slots_[server].push_back(own + behind_[server].size());
        behind_[server].push_back(hot[i]);
      }
    }
  }
  for (std::size_t i = 0; i < hot.size(); ++i) which_.emplace(hot[i], i);
}

std::optional<std::size_t> Replicas::find(std::uint64_t row) const {
  const auto found = which_.find(row);
  return found == which_.end() ? std::nullopt : std::optional(found->second);
}

std::uint32_t Replicas::reads_from(std::size_t which, int worker) const {
  const auto servers = static_cast<std::uint32_t>(slots_.size());
  return (homes_[which].server + static_cast<std::uint32_t>(worker)) % servers;
}

}  // namespace mls
