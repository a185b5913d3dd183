// room.cpp: reading WGSL and C++ declarations by their looks.
#include "kernels/room.hpp"

#include <algorithm>
#include <regex>
#include <set>

#include "gpu/shader.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

using Match = std::match_results<std::string_view::const_iterator>;

std::string_view trim(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const size_t first = text.find_first_not_of(blank);
  return first == text.npos ? "" : text.substr(first, text.find_last_not_of(blank) + 1 - first);
}

std::string_view next_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

struct Line {
  std::string_view code, comment;
};
Line split_comment(std::string_view line) {
  const size_t mark = line.find("//");
  if (mark == line.npos) return {trim(line), ""};
  return {trim(line.substr(0, mark)), trim(line.substr(mark + 2))};
}

std::string without_comments(std::string_view text) {
  std::string code;
  while (!text.empty()) code.append(split_comment(next_line(text)).code) += '\n';
  return code;
}

// What stands between the braces of `struct Params`; empty when there is none.
std::string_view params_body(std::string_view text) {
  constexpr std::string_view name = "struct Params";
  const size_t at = text.find(name);
  if (at == text.npos) return {};
  const size_t open = text.find('{', at), close = text.find('}', at);
  return open < close && close != text.npos ? text.substr(open + 1, close - open - 1)
                                            : std::string_view();
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    if (const std::string_view part = trim(text.substr(0, end)); !part.empty())
      parts.push_back(part);
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

void read_header(std::string_view text, Room& room) {
  for (bool first = true; text.starts_with("//"); first = false) {
    const std::string_view line = split_comment(next_line(text)).comment;
    if (!first) {
      if (!room.header.empty() || !line.empty()) room.header.append(line) += '\n';
      continue;
    }
    const size_t colon = std::min(line.find(": "), line.size());
    room.file = line.substr(0, colon);
    room.summary = trim(line.substr(std::min(colon + 1, line.size())));
  }
}

}  // namespace

Room read_room(std::string_view wgsl) {
  static const std::regex declared_override(R"(override\s+(\w+)\s*:\s*(\w+)\s*(?:=\s*([^;]+))?;)");
  static const std::regex declared_binding(
      R"(@group\(0\)\s*@binding\((\d+)\)\s*var<([^>]*)>\s*(\w+)\s*:\s*([^;]+);)");
  static const std::regex entry(R"(@compute[^;{]*\bfn\s+(\w+))");
  Room room;
  read_header(wgsl, room);
  for (std::string_view rest = wgsl; !rest.empty();) {
    const auto [code, comment] = split_comment(next_line(rest));
    Match match;
    if (std::regex_search(code.begin(), code.end(), match, declared_override))
      room.overrides.push_back({match[1], match[2], match[3], std::string(comment)});
    if (std::regex_search(code.begin(), code.end(), match, declared_binding))
      room.bindings.push_back(
          {uint32_t(std::stoul(match[1])), match[2], match[3], match[4], std::string(comment)});
  }
  for (std::string_view rest = params_body(wgsl); !rest.empty();) {
    const auto [code, comment] = split_comment(next_line(rest));
    for (const std::string_view field : split(code, ',')) {
      const auto parts = split(field, ':');
      require(parts.size() == 2, "{}: Params has a field \"{}\", which is not name: type",
              room.file, field);
      room.params.push_back(
          {std::string(parts[0]), std::string(parts[1]), "", std::string(comment)});
    }
  }
  const std::string code = without_comments(wgsl);
  for (std::sregex_iterator match(code.begin(), code.end(), entry), end; match != end; ++match)
    room.entries.push_back((*match)[1]);
  return room;
}

std::string header_rule(const Room& room, std::string_view name) {
  const std::regex sentence(fmt::format(R"(\b{}: ([^]*?)\.\s)", name));
  std::smatch match;
  if (!std::regex_search(room.header, match, sentence)) return "";
  std::string rule = match[1];
  std::ranges::replace(rule, '\n', ' ');
  return rule;
}

bool needs_subgroups(const gpu::ConstantInfo& info) {
  return info.fallback.name == "USE_SUBGROUPS";
}

bool uses_subgroups(const gpu::Kernel& kernel) {
  // A call of what shared/lane and shared/reduce have in two forms.
  static const std::regex call(
      R"((fn )?\b(?:sublane|(?:subgroup|first_lanes|workgroup_sum|workgroup_max)\w*)\()");
  gpu::Constants defaults;
  for (const gpu::ConstantInfo& info : kernel.constants) defaults.push_back(info.fallback);
  const std::string text =
      without_comments(compose(wgsl_sources(), kernel.name, gpu::Variant{}, defaults));
  for (std::sregex_iterator match(text.begin(), text.end(), call), end; match != end; ++match)
    if (!(*match)[1].matched) return true;
  return false;
}

std::string_view type_name(const gpu::Constant& constant) {
  return constant.kind == 'b'   ? "bool"
         : constant.kind == 'f' ? "f32"
         : constant.kind == 'i' ? "i32"
                                : "u32";
}

std::vector<Declared> read_params(std::string_view hpp) {
  static const std::regex declaration(R"((\w+)\s+([^;]*))");
  std::vector<Declared> fields;
  const std::string code = without_comments(params_body(hpp));
  for (const std::string_view line : split(code, ';')) {
    Match match;
    require(std::regex_match(line.begin(), line.end(), match, declaration),
            "Params: \"{}\" is not a declaration of fields", line);
    const std::string type = match[1];
    require(type == "uint32_t" || type == "int32_t" || type == "float",
            "Params: \"{}\" is not of uint32_t, int32_t or float", line);
    for (const std::string_view field :
         split(std::string_view(match[2].first, match[2].second), ',')) {
      const std::string_view name = trim(field.substr(0, field.find('=')));
      fields.push_back({std::string(name),
                        type == "float"     ? "f32"
                        : type == "int32_t" ? "i32"
                                            : "u32",
                        "", ""});
    }
  }
  return fields;
}

size_t combinations(const gpu::Kernel& kernel) {
  size_t n = 1;
  for (const gpu::ConstantInfo& info : kernel.constants) n *= info.values.size();
  return n;
}

namespace {

// The product of the constants' values, numbered with the last constant fastest.
class Combinations {
 public:
  explicit Combinations(const gpu::Kernel& kernel) : kernel_(kernel) {
    refusals_.reserve(combinations(kernel));
    for (size_t number = 0; number < combinations(kernel); ++number)
      refusals_.push_back(kernel.refusal(constants(number)));
  }

  const std::vector<std::string_view>& refusals() const { return refusals_; }

  // Which value of each constant a combination has.
  std::vector<size_t> places(size_t number) const {
    std::vector<size_t> result(kernel_.constants.size());
    for (size_t i = result.size(); i-- > 0;) {
      const size_t n = kernel_.constants[i].values.size();
      result[i] = number % n;
      number /= n;
    }
    return result;
  }

  // Calls visit(number) for each combination of a box, until it gives false; whether it never did.
  bool all(const std::vector<std::set<size_t>>& box, auto&& visit, size_t i = 0,
           size_t number = 0) const {
    if (i == box.size()) return visit(number);
    for (const size_t place : box[i])
      if (!all(box, visit, i + 1, number * kernel_.constants[i].values.size() + place))
        return false;
    return true;
  }

 private:
  gpu::Constants constants(size_t number) const {
    gpu::Constants result;
    const auto where = places(number);
    for (size_t i = 0; i < where.size(); ++i) {
      result.push_back(kernel_.constants[i].fallback);
      result.back().value = kernel_.constants[i].values[where[i]];
    }
    return result;
  }

  const gpu::Kernel& kernel_;
  std::vector<std::string_view> refusals_;
};

}  // namespace

std::vector<Refusal> refusals(const gpu::Kernel& kernel) {
  const Combinations combinations(kernel);
  std::set<size_t> open;
  for (size_t i = 0; i < combinations.refusals().size(); ++i)
    if (!combinations.refusals()[i].empty()) open.insert(i);

  std::vector<Refusal> result;
  while (!open.empty()) {
    // The first one that is not told yet, widened value by value as long as all of it is refused.
    const size_t first = *open.begin();
    std::vector<std::set<size_t>> box;
    for (const size_t place : combinations.places(first)) box.push_back({place});
    for (size_t i = 0; i < box.size(); ++i)
      for (size_t place = 0; place < kernel.constants[i].values.size(); ++place) {
        const bool fresh = box[i].insert(place).second;
        if (fresh &&
            !combinations.all(box, [&](size_t n) { return !combinations.refusals()[n].empty(); }))
          box[i].erase(place);
      }
    combinations.all(box, [&](size_t n) { return open.erase(n), true; });

    Refusal refusal{{}, combinations.refusals()[first]};
    for (size_t i = 0; i < box.size(); ++i) {
      const gpu::ConstantInfo& info = kernel.constants[i];
      if (box[i].size() == info.values.size()) continue;
      auto& [name, values] =
          refusal.where.emplace_back(info.fallback.name, std::vector<gpu::Constant>());
      for (const size_t place : box[i]) {
        values.push_back(info.fallback);
        values.back().value = info.values[place];
      }
    }
    result.push_back(std::move(refusal));
  }
  return result;
}

}  // namespace ms
