// room.hpp: what a kernel's WGSL file declares, read from its text: for `mainspring kernels`,
// docs/kernels.md and the contract test.
//
// Reads files that keep the conventions of this folder: one declaration a line, its comment behind
// it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "gpu/work.hpp"

namespace ms {

struct Declared {  // an override, or a field of Params
  std::string name;
  std::string type;
  std::string value;  // an override's default
  std::string comment;
  bool operator==(const Declared&) const = default;
};

struct DeclaredBinding {
  uint32_t index = 0;
  std::string space;  // as in var<space>: "uniform", "storage, read", "storage, read_write"
  std::string name;
  std::string type;
  std::string comment;
};

struct Room {
  std::string file;     // as its first line calls it: "rmsnorm.wgsl"
  std::string summary;  // what it computes: the rest of that line
  std::string header;   // the further lines of the comment at the top
  std::vector<Declared> overrides;
  std::vector<Declared> params;
  std::vector<DeclaredBinding> bindings;
  std::vector<std::string> entries;  // compute entry points
};
Room read_room(std::string_view wgsl);
// The sentence behind "Grid: " or "Limits: " in a room's header: how many workgroups it takes, what
// it refuses beside shapes that disagree. Empty where there is none.
std::string header_rule(const Room& room, std::string_view name);
// Whether true is refused on devices without subgroups.
bool needs_subgroups(const gpu::ConstantInfo& info);
// Whether the kernel computes otherwise on devices with subgroups.
bool uses_subgroups(const gpu::Kernel& kernel);

// "bool", "u32", "i32" or "f32".
std::string_view type_name(const gpu::Constant& constant);

// The fields of `struct Params` in a room's .hpp, one after the other, with their WGSL types.
// Throws std::invalid_argument for a field that is neither uint32_t, int32_t nor float.
std::vector<Declared> read_params(std::string_view hpp);

// Some combinations of a kernel's constants, as the values that each constant may have.
struct Refusal {
  std::vector<std::pair<std::string_view, std::vector<gpu::Constant>>>
      where;  // constants that do not matter are left out
  std::string_view reason;
};
// What the kernel refuses of the combinations of its tested values, each at least once, in as few
// lines as are easily found.
std::vector<Refusal> refusals(const gpu::Kernel& kernel);
// How many combinations the tested values of a kernel's constants have, valid or not.
size_t combinations(const gpu::Kernel& kernel);

}  // namespace ms
