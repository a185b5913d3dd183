// models.hpp: models by their names at a hub.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace ms {

// The file or folder of USER/REPO[:WHICH]: from the cache, or else fetched, which stderr tells.
std::filesystem::path hub_model(const std::string& name);

// What the cache holds: models of a hub by their names there, others of that folder by those of
// their files. Asks nobody.
struct LocalModel {
  std::string name;
  std::filesystem::path path = {};  // empty: its download was broken off
  bool of_hub = false;
};
std::vector<LocalModel> local_models();

}  // namespace ms
