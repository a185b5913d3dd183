// inspect.cpp: mainspring inspect: what a model file holds. Needs no GPU.
#include <map>
#include <nlohmann/json.hpp>

#include "apps/model_options.hpp"
#include "formats/model_file.hpp"

namespace ms {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t shown_elements = 8, shown_bytes = 200;  // of an array, of a string

// Calls visit(type name, value) with a scalar or an array.
void visit_value(const ModelFile::Value& value, const auto& visit) {
  const std::string_view type = element_type(value);
  std::visit(
      [&]<class T>(const T& held) {
        if constexpr (std::is_same_v<T, ModelFile::Array>)
          std::visit([&](const auto& elements) { visit(type, elements); }, held);
        else
          visit(type, held);
      },
      value);
}

template <class T>
constexpr bool is_array = requires(T value) {
  value.push_back({});
};

// Text of a file is shown quoted and escaped: it may hold anything.
template <class T>
std::string shown(const T& value) {
  if constexpr (std::is_convertible_v<T, std::string_view>) {
    const std::string_view text = value;
    return text.size() <= shown_bytes
               ? fmt::format("{:?}", text)
               : fmt::format("{:?}… {} bytes", text.substr(0, shown_bytes), grouped(text.size()));
  } else {
    return fmt::format("{}", value);
  }
}

// A key or a name: escaped, without the quotes.
std::string name_of(std::string_view text) {
  const std::string quoted = fmt::format("{:?}", text);
  return quoted.substr(1, quoted.size() - 2);
}

template <class T>
std::string shown(const std::vector<T>& array) {
  std::string text;
  for (size_t i = 0; i < std::min(array.size(), shown_elements); ++i)
    text += fmt::format("{}{}", i ? ", " : "", shown<T>(array[i]));
  return array.size() > shown_elements ? text + ", …" : text;
}

template <class T>
Json json_of(std::string_view type, const T& value) {
  if constexpr (is_array<T>) {
    Json first = Json::array();
    for (size_t i = 0; i < std::min(value.size(), shown_elements); ++i)
      first.push_back(typename T::value_type(value[i]));
    return {{"array_of", type}, {"length", value.size()}, {"first", std::move(first)}};
  } else {
    return value;
  }
}

struct Total {
  uint64_t tensors = 0, elements = 0, bytes = 0;

  void add(const TensorInfo& tensor) {
    ++tensors;
    elements += tensor.elements();
    bytes += tensor.data.size();
  }
};

void print_text(const ModelFile& file, const std::map<std::string_view, Total>& totals,
                const Total& all) {
  fmt::print("{}\n", styled(Style::title, "metadata"));
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, value] : file.metadata())
    visit_value(value, [&]<class T>(std::string_view type, const T& held) {
      std::string kind(type);
      if constexpr (is_array<T>) kind += fmt::format("[{}]", held.size());
      rows.push_back({"  " + name_of(key), kind, shown(held)});
    });
  print_table(rows);

  fmt::print("{}\n", styled(Style::title, "tensors"));
  rows.clear();
  for (const TensorInfo& tensor : file.tensors())
    rows.push_back({"  " + name_of(tensor.name), std::string(info(tensor.type).name),
                    fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
                    binary_bytes(tensor.data.size())});
  print_table(rows);

  fmt::print("{}\n", styled(Style::title, "totals"));
  rows.clear();
  const auto add = [&](std::string_view name, const Total& total) {
    rows.push_back({fmt::format("  {}", name), fmt::format("{} tensors", total.tensors),
                    fmt::format("{} weights", grouped(total.elements)), binary_bytes(total.bytes),
                    total.elements ? fmt::format("{:.2f} bits a weight",
                                                 8.0 * double(total.bytes) / double(total.elements))
                                   : ""});
  };
  for (const auto& [name, total] : totals) add(name, total);
  add("all", all);
  print_table(rows);
}

Json to_json(const ModelFile& file, const std::map<std::string_view, Total>& totals,
             const Total& all) {
  Json metadata = Json::object(), tensors = Json::array(), by_type = Json::object();
  for (const auto& [key, value] : file.metadata())
    visit_value(value, [&](std::string_view type, const auto& held) {
      metadata[std::string(key)] = json_of(type, held);
    });
  for (const TensorInfo& tensor : file.tensors())
    tensors.push_back({{"name", tensor.name},
                       {"type", info(tensor.type).name},
                       {"shape", tensor.shape},
                       {"bytes", tensor.data.size()}});
  const auto total_json = [](const Total& total) {
    return Json{{"tensors", total.tensors}, {"elements", total.elements}, {"bytes", total.bytes}};
  };
  for (const auto& [name, total] : totals) by_type[std::string(name)] = total_json(total);
  return {{"path", file.path().string()},
          {"format", file.format()},
          {"metadata", std::move(metadata)},
          {"tensors", std::move(tensors)},
          {"totals", {{"by_type", std::move(by_type)}, {"all", total_json(all)}}}};
}

void inspect(const std::string& path, bool json) {
  const ModelFile file = open_model(path);
  std::map<std::string_view, Total> totals;
  Total all;
  for (const TensorInfo& tensor : file.tensors()) {
    totals[info(tensor.type).name].add(tensor);
    all.add(tensor);
  }
  if (json) {
    // A name that is no UTF-8 is shown with replacement characters.
    fmt::print("{}\n",
               to_json(file, totals, all).dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  fmt::print("{}: {}, {}\n", path, file.format(), binary_bytes(file.mapped_bytes()));
  print_text(file, totals, all);
}

}  // namespace

void add_inspect(CLI::App& app, const GlobalOptions&) {
  struct Arguments {
    std::string model, hub_model;
    std::string format = "text";
  };
  CLI::App& command = *app.add_subcommand(
      "inspect", "Prints what a model file holds: metadata, tensors, totals. Needs no GPU.");
  const auto arguments = std::make_shared<Arguments>();
  command.add_option("-m,--model,MODEL", arguments->model,
                     "A GGUF file, or a folder from Hugging Face");
  add_hub_option(command, arguments->hub_model);
  add_output_option(command, arguments->format);
  command.callback([arguments] {
    inspect(model_path(arguments->model, arguments->hub_model), arguments->format == "json");
  });
}

}  // namespace ms
