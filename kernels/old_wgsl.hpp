// old_wgsl.hpp: what a WGSL file of any style declares, as far as running its entry points needs
// it.
//
// The text is only split into words and marks, in one pass: what is wrong with it is the compiler's
// to say, and no file is too strange to be read.
#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ms {

class OldWgsl {
 public:
  using Tokens = std::span<const std::string_view>;
  struct Variable {
    Tokens binding;  // the expression of its number
    bool uniform = false, written = false;
    std::string_view name;
    std::string type;  // without blanks; as the fields' are
  };
  struct Field {
    std::string_view name;
    std::string type;  // with its attributes in front
  };

  // Throws Error for what is no regular file, or cannot be read.
  explicit OldWgsl(const std::filesystem::path& path);
  OldWgsl(const OldWgsl&) = delete;  // everything points into its text
  OldWgsl& operator=(const OldWgsl&) = delete;

  const std::string& text() const { return text_; }
  const std::vector<Variable>& variables() const { return variables_; }  // that are bound
  const std::vector<Field>* fields(std::string_view type) const;  // null where it is no struct
  bool has_entries() const { return has_entries_; }
  bool has_entry(std::string_view name) const;

  // The names that an entry point uses, by itself or through functions.
  std::set<std::string_view> used_names(std::string_view entry) const;

  // With the defaults of overrides. They throw Error for what is more than whole numbers, names of
  // constants and overrides, and sums, products, quotients and shifts of them.
  uint32_t binding(const Variable& variable) const;
  std::array<uint32_t, 3> workgroup_size(std::string_view entry) const;

 private:
  friend class Evaluator;
  struct Function {
    bool entry = false;
    Tokens size;  // what an entry point's @workgroup_size has in its parentheses
    Tokens body;
  };

  std::string text_;
  std::vector<std::string_view> tokens_;
  bool has_entries_ = false;
  std::vector<Variable> variables_;
  std::map<std::string_view, Function> functions_;
  std::map<std::string_view, Tokens> values_;  // of constants and overrides
  std::map<std::string_view, std::vector<Field>> structs_;
};

}  // namespace ms
