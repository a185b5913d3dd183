// old_wgsl.cpp: splitting a WGSL file into words and marks, and finding its declarations.
#include "kernels/old_wgsl.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <fstream>
#include <iterator>

#include "base/error.hpp"

namespace ms {

namespace {

using Tokens = OldWgsl::Tokens;

std::string read_text(const std::filesystem::path& path) {
  if (!is_regular_file(path)) fail("{} is no regular file", path.string());
  constexpr uint64_t most = 16 << 20;
  if (const auto bytes = file_size(path); bytes > most)
    fail("{} has {} bytes, more than any WGSL file", path.string(), bytes);
  std::ifstream stream(path, std::ios::binary);
  if (!stream) fail("{} cannot be read", path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Words, numbers, and each other character by itself; no comments.
std::vector<std::string_view> split(std::string_view text) {
  const auto in_word = [](unsigned char c) { return std::isalnum(c) || c == '_' || c >= 0x80; };
  std::vector<std::string_view> tokens;
  for (size_t i = 0, end; i < text.size(); i = end) {
    end = i + 1;
    if (text.substr(i, 2) == "//") {
      end = std::min(text.find_first_of("\n\v\f\r", i), text.size());
    } else if (text.substr(i, 2) == "/*") {
      ++end;
      for (int depth = 1; depth && end < text.size(); ++end) {
        const std::string_view mark = text.substr(end, 2);
        if (mark == "/*") ++depth, ++end;
        if (mark == "*/") --depth, ++end;
      }
    } else if (!std::isspace(static_cast<unsigned char>(text[i]))) {
      if (in_word(text[i]))
        while (end < text.size() && in_word(text[end])) ++end;
      tokens.push_back(text.substr(i, end - i));
    }
  }
  return tokens;
}

struct Cursor {
  Tokens rest;

  bool done() const { return rest.empty(); }
  std::string_view front() const { return done() ? std::string_view() : rest.front(); }
  std::string_view next() {
    const std::string_view token = front();
    rest = rest.subspan(!done());
    return token;
  }
  // What stands before the mark; passes both.
  Tokens until(std::string_view mark) { return pass(std::ranges::find(rest, mark)); }
  // What stands between this bracket and its partner, or nothing where no such bracket is next.
  Tokens enclosed(std::string_view open, std::string_view close) {
    if (front() != open) return {};
    next();
    size_t depth = 1;
    return pass(std::ranges::find_if(rest, [&](std::string_view token) {
      depth += token == open;
      depth -= token == close;
      return depth == 0;
    }));
  }

 private:
  Tokens pass(Tokens::iterator end) {
    const Tokens before = rest.first(size_t(end - rest.begin()));
    rest = rest.subspan(std::min(before.size() + 1, rest.size()));
    return before;
  }
};

std::string joined(Tokens tokens) {
  std::string text;
  for (std::string_view token : tokens) text += token;
  return text;
}

std::vector<OldWgsl::Field> read_fields(Tokens body) {
  std::vector<OldWgsl::Field> fields;
  while (!body.empty()) {
    size_t depth = 0;
    const auto end = std::ranges::find_if(body, [&](std::string_view token) {
      depth += token == "<" || token == "(";
      depth -= depth && (token == ">" || token == ")");
      return depth == 0 && (token == "," || token == ";");
    });
    const Tokens field = body.first(size_t(end - body.begin()));
    body = body.subspan(std::min(field.size() + 1, body.size()));
    const size_t colon = size_t(std::ranges::find(field, ":") - field.begin());
    if (colon == 0 || colon == field.size()) continue;
    fields.push_back(
        {field[colon - 1], joined(field.first(colon - 1)) + joined(field.subspan(colon + 1))});
  }
  return fields;
}

}  // namespace

OldWgsl::OldWgsl(const std::filesystem::path& path)
    : text_(read_text(path)), tokens_(split(text_)) {
  std::map<std::string_view, Tokens> attributes;
  for (Cursor in{tokens_}; !in.done();) {
    const std::string_view word = in.next();
    if (word == "@") {
      const std::string_view name = in.next();
      attributes[name] = in.enclosed("(", ")");
      continue;
    }
    if (word == "fn") {
      Function& function = functions_[in.next()];
      function.entry = attributes.contains("workgroup_size");
      if (function.entry) function.size = attributes["workgroup_size"];
      has_entries_ |= function.entry;
      in.enclosed("(", ")");
      while (!in.done() && in.front() != "{") in.next();
      function.body = in.enclosed("{", "}");
    } else if (word == "struct") {
      auto& fields = structs_[in.next()];
      fields = read_fields(in.enclosed("{", "}"));
    } else if (word == "const" || word == "override") {
      Cursor declared{in.until(";")};
      const std::string_view name = declared.next();
      declared.until("=");
      values_[name] = declared.rest;
    } else if (word == "var") {
      const Tokens space = in.enclosed("<", ">");
      Cursor declared{in.until(";")};
      const std::string_view name = declared.next();
      declared.next();  // the colon
      if (attributes.contains("binding"))
        variables_.push_back({attributes["binding"], std::ranges::count(space, "uniform") > 0,
                              std::ranges::count(space, "read_write") > 0, name,
                              joined(declared.until("="))});
    }
    attributes.clear();
  }
}

const std::vector<OldWgsl::Field>* OldWgsl::fields(std::string_view type) const {
  const auto found = structs_.find(type);
  return found == structs_.end() ? nullptr : &found->second;
}

bool OldWgsl::has_entry(std::string_view name) const {
  const auto found = functions_.find(name);
  return found != functions_.end() && found->second.entry;
}

std::set<std::string_view> OldWgsl::used_names(std::string_view entry) const {
  std::set<std::string_view> used;
  std::vector<std::string_view> open = {entry};
  while (!open.empty()) {
    const Tokens body = functions_.at(open.back()).body;
    open.pop_back();
    for (std::string_view token : body)
      if (used.insert(token).second && functions_.contains(token)) open.push_back(token);
  }
  return used;
}

// The value of a constant expression of u32.
class Evaluator {
 public:
  Evaluator(const OldWgsl& file, std::string what) : file_(file), what_(std::move(what)) {}

  // Of what stands there; the rest is left. Shifts are of level 0, sums of 1, products of 2.
  uint32_t expression(Cursor& in, size_t level = 0) {
    constexpr std::string_view operators[] = {"<>", "+-", "*/%"};
    if (level == std::size(operators)) return operand(in);
    uint32_t left = expression(in, level + 1);
    while (!in.done() && operators[level].find(in.front()) != std::string_view::npos) {
      const std::string_view mark = in.next();
      if (level == 0 && in.next() != mark) refuse(mark, "is no shift");
      left = combined(left, mark, expression(in, level + 1));
    }
    return left;
  }

  [[noreturn]] void refuse(std::string_view token, std::string_view why) const {
    fail("{}: {} {}", what_, token.empty() ? "its end" : token.substr(0, 40), why);
  }

 private:
  uint32_t operand(Cursor& in) {
    const std::string_view token = in.next();
    // Also the end of constants that are defined by each other.
    if (operands_++ == 200) refuse(token, "is an operand too many");
    if (token == "(") {
      const uint32_t value = expression(in);
      if (in.next() != ")") refuse(token, "is not closed");
      return value;
    }
    if ((token == "u32" || token == "i32") && in.front() == "(") return operand(in);
    if (const auto found = file_.values_.find(token); found != file_.values_.end()) {
      Cursor value{found->second};
      const uint32_t result = expression(value);
      if (!value.done()) refuse(value.front(), "is not understood");
      return result;
    }
    return number(token);
  }

  uint32_t number(std::string_view token) const {
    std::string_view digits = token;
    const bool hex = digits.starts_with("0x") || digits.starts_with("0X");
    if (hex) digits.remove_prefix(2);
    if (digits.ends_with('u') || digits.ends_with('i')) digits.remove_suffix(1);
    uint32_t value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [read, error] = std::from_chars(digits.data(), end, value, hex ? 16 : 10);
    if (error != std::errc() || read != end) refuse(token, "is no whole number or constant");
    return value;
  }

  uint32_t combined(uint64_t left, std::string_view mark, uint64_t right) const {
    const char sign = mark[0];
    if (((sign == '/' || sign == '%') && right == 0) ||
        ((sign == '<' || sign == '>') && right > 31))
      refuse(mark, fmt::format("cannot be by {}", right));
    const uint64_t value = sign == '<'   ? left << right
                           : sign == '>' ? left >> right
                           : sign == '+' ? left + right
                           : sign == '-' ? left - right  // far beyond u32 where it is negative
                           : sign == '*' ? left * right
                           : sign == '/' ? left / right
                                         : left % right;
    if (value > UINT32_MAX) refuse(mark, "gives what is no u32");
    return uint32_t(value);
  }

  const OldWgsl& file_;
  const std::string what_;
  int operands_ = 0;
};

uint32_t OldWgsl::binding(const Variable& variable) const {
  Evaluator evaluator(*this, fmt::format("binding of {}", variable.name));
  Cursor in{variable.binding};
  const uint32_t number = evaluator.expression(in);
  if (!in.done() && in.next() != ",") evaluator.refuse(in.front(), "is not understood");
  return number;
}

std::array<uint32_t, 3> OldWgsl::workgroup_size(std::string_view entry) const {
  Evaluator evaluator(*this, fmt::format("workgroup_size of {}", entry));
  std::array<uint32_t, 3> size = {1, 1, 1};
  Cursor in{functions_.at(entry).size};
  for (size_t i = 0; i < 3 && (i == 0 || !in.done()); ++i) {
    size[i] = evaluator.expression(in);
    if (size[i] == 0) evaluator.refuse("0", "is less than 1");
    if (!in.done() && in.front() != ",") evaluator.refuse(in.front(), "is not understood");
    in.next();
  }
  return size;
}

}  // namespace ms
