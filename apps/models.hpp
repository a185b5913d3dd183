// models.hpp: models by their names at a hub.
#pragma once
#include <filesystem>
#include <string>

namespace ms {

// The file or folder of USER/REPO[:WHICH]: from the cache, or else fetched, which stderr tells.
std::filesystem::path hub_model(const std::string& name);

}  // namespace ms
