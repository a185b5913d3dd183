// work.cpp: shapes, views and the text of work.
#include "gpu/work.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <map>

namespace ms::gpu {

namespace {

constexpr uint64_t most_elements = 1ull << 60;  // so that their bytes do not wrap either

uint32_t narrow(uint64_t n) {
  require(n <= std::numeric_limits<uint32_t>::max(), "an extent of {} does not fit 32 bits", n);
  return uint32_t(n);
}

}  // namespace

Shape::Shape(std::initializer_list<uint64_t> extents) {
  require(extents.size() <= dims.size(), "a shape has at most {} extents, got {}", dims.size(),
          extents.size());
  uint64_t elements = 1;
  for (uint64_t n : extents) {
    dims[rank++] = narrow(n);
    require(n == 0 || elements <= most_elements / n, "{} has too many elements",
            fmt::format("[{}]", fmt::join(extents, ", ")));
    elements *= n;
  }
}

uint64_t Shape::size() const {
  uint64_t n = 1;
  for (uint32_t i = 0; i < rank; ++i) n *= dims[i];
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (uint32_t i = 0; i < shape.rank; ++i)
    text += fmt::format("{}{}", i ? ", " : "", shape.dims[i]);
  return text + "]";
}

uint32_t View::rows() const {
  uint64_t n = 1;
  for (uint32_t i = 0; i + 1 < shape.rank; ++i) n *= shape.dims[i];
  return narrow(n);
}

View View::as(Shape other) const {
  require(other.size() == size(), "{} cannot be seen as {}", *this, to_string(other));
  View view = *this;
  view.shape = other;
  return view;
}

View View::slice(uint64_t first, Shape part) const {
  require(first <= size() && part.size() <= size() - first, "{} elements from {} are outside {}",
          part.size(), first, *this);
  View view = *this;
  view.offset += first * bytes_of(type);
  view.shape = part;
  return view;
}

std::string value_text(const Constant& constant) {
  return constant.kind == 'b' ? (constant.value != 0 ? "true" : "false")
                              : fmt::format("{}", constant.value);
}

std::string values_text(Constant constant, const std::vector<double>& values) {
  std::string text;
  for (const double value : values) {
    constant.value = value;
    text += (text.empty() ? "" : ", ") + value_text(constant);
  }
  return text;
}

std::string to_string(const Constants& constants) {
  std::string text;
  for (const Constant& c : constants) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}={}", c.name, value_text(c));
  }
  return text;
}

Grid fold(uint64_t groups) {
  constexpr uint64_t widest = 65535;  // maxComputeWorkgroupsPerDimension, the portable limit
  require(groups <= widest * widest, "{} workgroups exceed what a dispatch can hold", groups);
  if (groups <= widest) return {uint32_t(groups), 1, 1};
  const uint64_t rows = (groups + widest - 1) / widest;
  return {uint32_t((groups + rows - 1) / rows), uint32_t(rows), 1};
}

View Work::add_scratch(Shape shape, Type type) {
  scratch.push_back(shape.size() * bytes_of(type));
  return {.scratch = uint32_t(scratch.size()), .shape = shape, .type = type};
}

void Work::append(Work other) {
  assert(other.scratch.empty());
  std::ranges::move(other.dispatches, std::back_inserter(dispatches));
}

Work& Work::operator+=(Work other) {
  const uint32_t before = uint32_t(scratch.size());
  for (Dispatch& dispatch : other.dispatches) {
    for (View& view : dispatch.bindings)
      if (view.scratch) {
        assert(view.scratch <= other.scratch.size());
        view.scratch += before;
      }
    dispatches.push_back(std::move(dispatch));
  }
  scratch.insert(scratch.end(), other.scratch.begin(), other.scratch.end());
  return *this;
}

std::string to_string(const Dispatch& dispatch) {
  std::string text(dispatch.kernel->name);
  if (dispatch.entry != "main") text += fmt::format(".{}", dispatch.entry);
  text += fmt::format(" grid {}x{}x{}", dispatch.grid[0], dispatch.grid[1], dispatch.grid[2]);
  if (!dispatch.constants.empty()) text += " " + to_string(dispatch.constants);
  for (const View& view : dispatch.bindings) text += fmt::format(" | {}", view);
  return text;
}

std::vector<double> ConstantInfo::legal_values() const {
  if (most < least) return values;
  std::vector<double> result;
  for (double value = least; value <= most; value += powers ? value : 1) result.push_back(value);
  return result;
}

bool ConstantInfo::takes(double value) const {
  const auto legal = legal_values();
  return std::ranges::find(legal, value) != legal.end();
}

std::string ConstantInfo::legal() const {
  const auto legal = legal_values();
  if (most >= least && legal.size() > 2)
    return fmt::format("{} to {}{}", least, most, powers ? ", powers of two" : "");
  return values_text(fallback, legal);
}

void check(const Kernel& kernel, const Constants& constants) {
  require(constants.size() == kernel.constants.size(), "{}: {} constants given, it has {}",
          kernel.name, constants.size(), kernel.constants.size());
  for (size_t i = 0; i < constants.size(); ++i)
    require(kernel.constants[i].takes(constants[i].value), "{}: {} is {}; it may be {}",
            kernel.name, constants[i].name, constants[i].value, kernel.constants[i].legal());
  const std::string_view refusal = kernel.refusal(constants);
  require(refusal.empty(), "{}: {}: {}", kernel.name, to_string(constants), refusal);
}

std::vector<Constants> every(const Kernel& kernel, bool full) {
  std::vector<Constants> result;
  Constants now;
  for (const ConstantInfo& info : kernel.constants) now.push_back(info.fallback);
  size_t turn = 0;
  std::map<size_t, size_t> met;  // by a further value: valid combinations of the others so far
  const auto add = [&](size_t further) {  // 0, or the further value's place
    size_t most = 1;                      // values of a sizing constant
    if (!full)
      for (const ConstantInfo& info : kernel.constants)
        if (info.sizing) most = std::max(most, info.values.size());
    // Those whose turn it is, or the next that the others go with.
    bool valid = false;
    for (size_t next = turn; !valid && next < turn + most; ++next) {
      if (!full)
        for (size_t i = 0; i < now.size(); ++i)
          if (const auto& info = kernel.constants[i]; info.sizing)
            now[i].value = info.values[next % info.values.size()];
      valid = kernel.refusal(now).empty();
    }
    if (!valid) return;
    if (const size_t n = further ? met[further]++ : 0; n && (n + further) % 4) return;
    result.push_back(now);
    ++turn;
  };
  const auto walk = [&](auto& self, size_t i, size_t further) -> void {
    if (i == now.size()) return add(further);
    if (kernel.constants[i].sizing && !full) return self(self, i + 1, further);
    const std::vector<double>& values = kernel.constants[i].values;
    for (size_t n = 0; n < values.size(); ++n) {
      now[i].value = values[n];
      self(self, i + 1, n >= kernel.constants[i].in_product && !full ? n : further);
    }
  };
  walk(walk, 0, 0);
  // A kernel whose other constants have fewer combinations than a sizing one has values.
  size_t most = 1;
  for (const ConstantInfo& info : kernel.constants)
    most = std::max(most, info.sizing ? info.values.size() : 1);
  while (!full && turn > 0 && turn < most) walk(walk, 0, 0);
  return result;
}

std::string to_string(const Variant& variant) {
  std::string text;
  for (auto [on, name] : {std::pair{variant.subgroups, "subgroups"},
                          {variant.f16, "f16"},
                          {variant.matrix, "matrix"}})
    if (on) text += (text.empty() ? "" : "+") + std::string(name);
  return text.empty() ? "portable" : text;
}

Tier tier_by_name(std::string_view name) {
  if (name == "best") return Tier::best;
  if (name == "portable") return Tier::portable;
  if (name == "subgroups") return Tier::subgroups;
  if (name == "f16") return Tier::f16;
  if (name == "matrix") return Tier::matrix;
  throw std::invalid_argument(
      fmt::format("no tier \"{}\": use best, portable, subgroups, f16 or matrix", name));
}

}  // namespace ms::gpu
