// shader.hpp: from a kernel's WGSL file to the text of a module: imports pasted once, prelude in
// front.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "gpu/work.hpp"

namespace ms {

// A WGSL text by name: "rmsnorm" for a kernel, "lane.subgroups" for an import's form.
struct WgslSource {
  std::string_view name;
  std::string_view text;
};

namespace gpu {

// The module's text for a variant: `enable` lines, the prelude's constants as `const`, the file,
// and behind it, once each, what `#import name` asks for: name.wgsl, or its form for the variant,
// the first that is there of name.matrix.wgsl, name.fixed.wgsl (subgroups of one size),
// name.subgroups.wgsl and name.portable.wgsl. Behind,
// since naga wants overrides before arrays that are sized by expressions of them. Throws
// std::invalid_argument for a name that is not there.
std::string compose(std::span<const WgslSource> sources, std::string_view kernel,
                    const Variant& variant, const Constants& constants);

// A composed module with each override as a `const` of its value: what specialisation must equal.
std::string with_constants(std::string module, const Constants& constants);

}  // namespace gpu
}  // namespace ms
