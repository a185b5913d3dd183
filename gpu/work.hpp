// work.hpp: GPU work as values. A wrapper returns Work; a recorder encodes it, the host runs its
// twin, --trace prints it, warm-up compiles it.
//
// Nothing here touches a device, and nothing includes webgpu.h.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/error.hpp"
#include "base/half.hpp"
#include "gpu/caps.hpp"

namespace ms::gpu {

struct Buffer;  // device memory: gpu/device.hpp

enum class Type : uint8_t { f32, f16, u32 };  // of a view's elements
constexpr uint32_t bytes_of(Type type) { return type == Type::f16 ? 2 : 4; }
constexpr std::string_view to_string(Type type) {
  return type == Type::f32 ? "f32" : type == Type::f16 ? "f16" : "u32";
}

// Row-major extents, innermost last, up to four.
struct Shape {
  std::array<uint32_t, 4> dims{};
  uint32_t rank = 0;

  Shape() = default;
  Shape(std::initializer_list<uint64_t>
            extents);  // throws std::invalid_argument beyond 2^32 - 1, 2^60 together
  uint32_t operator[](uint32_t i) const { return dims[i]; }
  uint64_t size() const;  // elements
  bool operator==(const Shape&) const = default;
};
std::string to_string(const Shape& shape);  // "[3, 64]"

// A range of a buffer seen as a tensor. Does not own. Empty (false) when it names no memory.
struct View {
  Buffer* buffer = nullptr;
  uint32_t scratch = 0;  // else the scratch of its Work with this number, from 1
  uint64_t offset = 0;   // bytes, a multiple of 256
  Shape shape;
  Type type = Type::f32;

  explicit operator bool() const { return buffer || scratch; }
  uint32_t cols() const { return shape.rank ? shape.dims[shape.rank - 1] : 1; }
  uint32_t rows() const;  // product of the outer extents; throws beyond 2^32 - 1
  uint64_t size() const { return shape.size(); }
  uint64_t bytes() const { return size() * bytes_of(type); }
  View as(Shape other) const;                    // the same elements, another shape
  View slice(uint64_t first, Shape part) const;  // part's elements, `first` elements on
};

// How a kernel uses a binding: `in` is var<storage, read>, `out` is var<storage, read_write>.
enum class Access : uint8_t { in, out };
inline constexpr Access in = Access::in, out = Access::out;

// One specialisation constant: an override of the module, or a `const` that the prelude declares.
struct Constant {
  std::string_view name;  // with static lifetime
  double value = 0;
  char kind = 'u';  // b bool, u u32, i i32, f f32
  bool prelude = false;
  bool operator==(const Constant&) const = default;
  auto operator<=>(const Constant&) const = default;
};
using Constants = std::vector<Constant>;           // every one, in declared order
std::string value_text(const Constant& constant);  // "true", "64"
std::string values_text(Constant constant, const std::vector<double>& values);  // "false, true"
std::string to_string(const Constants& constants);  // "SMALL_SIZE=true CACHE_SIZE=2048"

// visit's marks for constants on which no result depends: `sizing` sizes memory or deals out work;
// `in_prelude` sizes registers, too, so that it must be a `const` in the text. Such a number may be
// any power of two from the least to the largest of its listed values, or what to() and powers_to()
// say; any other constant, one of its listed values. `singly` is for a constant whose values, but
// the first, tests need not meet in every combination of the others: each such combination is a
// pipeline, and of a large kernel a minute of lavapipe's compiler.
struct Mark {
  bool prelude = false, powers = true;
  uint32_t least = 0, most = 0;  // 0: of the listed values
  bool singly = false;

  constexpr Mark to(uint32_t from, uint32_t last) const { return {prelude, false, from, last}; }
  constexpr Mark powers_to(uint32_t from, uint32_t last) const {
    return {prelude, true, from, last};
  }
};
inline constexpr Mark sizing{}, in_prelude{.prelude = true}, singly{.singly = true};

// A constant as a kernel declares it: its default and the values that tests and benches cover.
struct ConstantInfo {
  Constant fallback;
  std::vector<double> values;
  size_t in_product = 4;  // so many values are tested with every combination of the others
  bool sizing = false;
  bool powers = false;          // of a sizing number: powers of two alone
  double least = 0, most = -1;  // of a sizing number; else it takes the listed values

  std::vector<double> legal_values() const;
  bool takes(double value) const;
  std::string legal() const;  // "64 to 256, powers of two", "false, true"
};

using Grid = std::array<uint32_t, 3>;
// `groups` workgroups as (x, y) with x <= 65535; kernels skip the surplus.
Grid fold(uint64_t groups);

class HostDispatch;
using Twin = void (*)(const HostDispatch&);

// A kernel as its room declares it. One object each, of static lifetime.
struct Kernel {
  std::string_view name;         // of the WGSL file
  std::vector<Access> bindings;  // after the params at binding 0, in order
  Twin twin;
  uint32_t params_bytes;
  std::vector<ConstantInfo> constants;
  std::string_view (*refusal)(
      const Constants&);  // why a combination contradicts itself; empty when valid
  std::vector<std::string_view> entries = {"main"};  // several in moe_gather only
};

// One dispatch of one kernel: everything a recorder needs, by value.
struct Dispatch {
  const Kernel* kernel = nullptr;
  Constants constants;
  std::vector<View> bindings;  // an empty view gets a stand-in buffer
  std::vector<std::byte> params;
  Grid grid{1, 1, 1};
  std::string_view entry = "main";  // one of the kernel's
  std::string tuning_key = {};  // what its sizing constants are tuned by (gpu/tuning.hpp); or empty
};

// A short list of dispatches, in order, and the scratch they pass to each other. Most kernels need
// one.
struct Work {
  std::vector<Dispatch> dispatches;
  std::vector<uint64_t> scratch;  // bytes each; the recorder places them

  Work() = default;
  Work(Dispatch dispatch) { dispatches.push_back(std::move(dispatch)); }
  View add_scratch(Shape shape, Type type = Type::f32);
  Work& operator+=(Work other);
  // Dispatches that follow, of a work without scratch of its own: what they use is this one's.
  void append(Work other);
};
std::string to_string(const Dispatch& dispatch);  // one line for --trace

template <class T>
std::vector<std::byte> bytes(const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0);
  std::vector<std::byte> result(sizeof(T));
  std::memcpy(result.data(), &value, sizeof(T));
  return result;
}

namespace detail {
template <class T>
constexpr char kind_of() {
  if constexpr (std::is_same_v<T, bool>)
    return 'b';
  else if constexpr (std::is_floating_point_v<T>)
    return 'f';
  else if constexpr (std::is_signed_v<T>)
    return 'i';
  else
    return 'u';
}
}  // namespace detail

// The values of an Overrides, in declared order.
template <class Overrides>
Constants constants(Overrides over) {
  Constants result;
  over.visit([&]<class T>(std::string_view name, T& value, std::initializer_list<T>, auto... mark) {
    result.push_back({name, double(value), detail::kind_of<T>(), (mark.prelude || ...)});
  });
  return result;
}

// The Overrides that hold these values.
template <class Overrides>
Overrides overrides(const Constants& constants) {
  Overrides result;
  size_t i = 0;
  result.visit([&]<class T>(std::string_view, T& value, std::initializer_list<T>, auto...) {
    value = T(constants.at(i++).value);
  });
  return result;
}

// Declares a kernel: Args has Overrides (with visit and refusal) and Params.
template <class Args>
Kernel kernel(std::string_view name, std::vector<Access> bindings, Twin twin,
              std::vector<std::string_view> entries = {"main"}) {
  Kernel result{name,    std::move(bindings), twin, sizeof(typename Args::Params), {},
                nullptr, std::move(entries)};
  typename Args::Overrides over;
  over.visit([&]<class T>(std::string_view constant, T& value, std::initializer_list<T> values,
                          auto... mark) {
    ConstantInfo info{{constant, double(value), detail::kind_of<T>(), (mark.prelude || ...)}, {}};
    for (T v : values) info.values.push_back(double(v));
    Mark how{.singly = true};
    ((how = mark), ...);
    info.sizing = !how.singly;
    if (sizeof...(mark) > 0 && how.singly) info.in_product = 1;
    if (info.sizing && !std::is_same_v<T, bool>) {
      info.powers = how.powers;
      info.least = how.most ? how.least : *std::ranges::min_element(info.values);
      info.most = how.most ? how.most : *std::ranges::max_element(info.values);
    }
    result.constants.push_back(std::move(info));
  });
  result.refusal = [](const Constants& c) {
    return overrides<typename Args::Overrides>(c).refusal();
  };
  return result;
}

// Throws std::invalid_argument for a combination that the kernel refuses, or a value that one of
// its constants may not have. What a wrapper does first with the overrides that it is given.
void check(const Kernel& kernel, const Constants& constants);
template <class Overrides>
requires(!std::is_same_v<Overrides, Constants>) void check(const Kernel& kernel,
                                                           const Overrides& over) {
  check(kernel, constants(over));
}

// Every valid combination of the values that a kernel's constants list. Unless `full`, sizing ones
// are not in that product: they take their values in turn, from one combination of the others to
// the next; and of a constant with more than four values the fifth and later ones, of a `singly`
// one all but the first, meet a quarter of what the others may be.
std::vector<Constants> every(const Kernel& kernel, bool full = false);

// What a twin sees of a dispatch: its params, overrides and bindings in host memory, in WGSL order.
class HostDispatch {
 public:
  HostDispatch(const Dispatch& dispatch, std::vector<std::span<std::byte>> memory)
      : dispatch_(dispatch), memory_(std::move(memory)) {}

  template <class P>
  P params() const {
    P result;
    assert(dispatch_.params.size() == sizeof(P));
    std::memcpy(&result, dispatch_.params.data(), sizeof(P));
    return result;
  }
  template <class O>
  O overrides() const {
    return gpu::overrides<O>(dispatch_.constants);
  }
  // Binding i (0 is the first after the params) as elements of T; empty for a stand-in.
  template <class T>
  std::span<T> get(size_t i) const {
    return {reinterpret_cast<T*>(memory_.at(i).data()), memory_.at(i).size() / sizeof(T)};
  }
  // Stores element i of binding `binding`, f32, or f16: the nearest, ties to even, at most 65504.
  void store(size_t binding, size_t i, double value, bool f16) const {
    if (f16)
      get<uint16_t>(binding)[i] = f32_to_f16(float(std::clamp(value, -65504.0, 65504.0)));
    else
      get<float>(binding)[i] = float(value);
  }
  const Dispatch& dispatch() const { return dispatch_; }

 private:
  const Dispatch& dispatch_;
  std::vector<std::span<std::byte>> memory_;
};

}  // namespace ms::gpu

template <>
struct fmt::formatter<ms::gpu::View> : fmt::formatter<std::string> {
  auto format(const ms::gpu::View& view, fmt::format_context& context) const {
    return fmt::formatter<std::string>::format(
        view ? fmt::format("{} {}", to_string(view.shape), to_string(view.type)) : "absent",
        context);
  }
};
