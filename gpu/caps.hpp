// caps.hpp: what a device can do, as plain data. Wrappers choose overrides from it; no device is
// touched.
#pragma once
#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gpu/tuning.hpp"

namespace ms::gpu {

// The features that a shader's prelude is made for: a set, not a ladder. Part of the pipeline key.
struct Variant {
  bool subgroups = false;  // native subgroup built-ins; else the prelude's constants
  bool f16 = false;        // `enable f16;`
  bool matrix = false;     // 16 x 16 f16 subgroup matrices (Dawn's experimental feature), and both
  uint32_t subgroup_size = 0;  // lanes of every subgroup, const SUBGROUP_SIZE; 0 where that varies

  auto operator<=>(const Variant&) const = default;
};
std::string to_string(const Variant& variant);  // "subgroups+f16", or "portable" when empty

// A preset of the feature set: what --tier names. The device's own features still bound it.
enum class Tier { best, portable, subgroups, f16, matrix };
Tier tier_by_name(std::string_view name);  // throws std::invalid_argument that lists the names

struct Caps {
  uint32_t number = 0;        // among the adapters, as --device takes it
  std::string name;           // of the adapter: "NVIDIA H200"
  std::string driver;         // the driver's own description
  std::string backend;        // "Vulkan"
  std::string type;           // "discrete", "integrated", "CPU" or "unknown"
  bool cpu = false;           // a software rasteriser such as lavapipe
  uint32_t cpu_threads = 0;   // that it may use
  uint64_t memory_bytes = 0;  // its own, or what it shares with the host; 0: it does not tell

  Variant variant;
  bool timestamps = false;
  // dot4I8Packed is an instruction, not emulated by Tint. Known of an open device only.
  bool int8_dot = false;
  // Kinds of subgroup matrices: "f16 * f16 + f32, 16x16x16".
  std::vector<std::string> matrices;
  bool robust = true;  // out-of-bounds accesses are caught in shaders

  // Subgroup sizes may differ from dispatch to dispatch between these bounds; 1 without subgroups.
  uint32_t min_subgroup_size = 1;
  uint32_t max_subgroup_size = 1;

  uint32_t max_storage_buffers = 8;           // a stage
  uint32_t max_workgroup_bytes = 16384;       // of var<workgroup>
  uint32_t max_invocations = 256;             // a workgroup
  uint32_t max_workgroups = 65535;            // a dimension
  uint64_t max_binding_bytes = 128ull << 20;  // one storage binding
  uint64_t max_buffer_bytes = 256ull << 20;

  // Whether every subgroup has so many lanes, and multiplies matrices.
  bool has_matrices_of(uint32_t lanes) const {
    return variant.matrix && min_subgroup_size == lanes && max_subgroup_size == lanes;
  }

  std::shared_ptr<const Tuning> tuning;  // measured here; absent: nothing was
};

}  // namespace ms::gpu
