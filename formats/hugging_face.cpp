// hugging_face.cpp: config.json and tensors.
#include "formats/hugging_face.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <map>
#include <numbers>
#include <set>

#include "base/error.hpp"
#include "formats/safetensors.hpp"

namespace ms {
namespace {

using std::filesystem::path;

struct Name {
  std::string_view here, gguf;  // without ".weight" or ".bias"; of a layer's: behind its number
};

// What a tensor of a layer is called. Two families give one name to two things.
constexpr Name kLlamaLayer[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"}};
constexpr Name kGemma3Layer[] = {{"input_layernorm", "attn_norm"},
                                 {"self_attn.q_proj", "attn_q"},
                                 {"self_attn.k_proj", "attn_k"},
                                 {"self_attn.v_proj", "attn_v"},
                                 {"self_attn.o_proj", "attn_output"},
                                 {"self_attn.q_norm", "attn_q_norm"},
                                 {"self_attn.k_norm", "attn_k_norm"},
                                 {"post_attention_layernorm", "post_attention_norm"},
                                 {"pre_feedforward_layernorm", "ffn_norm"},
                                 {"post_feedforward_layernorm", "post_ffw_norm"},
                                 {"mlp.gate_proj", "ffn_gate"},
                                 {"mlp.up_proj", "ffn_up"},
                                 {"mlp.down_proj", "ffn_down"}};
constexpr Name kBertLayer[] = {{"attention.self.query", "attn_q"},
                               {"attention.self.key", "attn_k"},
                               {"attention.self.value", "attn_v"},
                               {"attention.output.dense", "attn_output"},
                               {"attention.output.LayerNorm", "attn_output_norm"},
                               {"intermediate.dense", "ffn_up"},
                               {"output.dense", "ffn_down"},
                               {"output.LayerNorm", "layer_output_norm"}};
constexpr Name kDecoder[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr Name kBert[] = {{"embeddings.word_embeddings", "token_embd"},
                          {"embeddings.position_embeddings", "position_embd"},
                          {"embeddings.token_type_embeddings", "token_types"},
                          {"embeddings.LayerNorm", "token_embd_norm"}};

// A model as config.json describes it, on its way.
struct Translation {
  const JsonObject& config;
  ModelFile& out;
  std::string_view architecture;  // GGUF's word

  void set(std::string_view key, ModelFile::Value value) const {
    out.set(out.keep(fmt::format("{}.{}", architecture, key)), std::move(value));
  }
};

struct Family {
  std::string_view here, gguf;               // config.json: "architectures"; general.architecture
  void (*translate)(const Translation& to);  // numbers
  std::span<const Name> names, layer;        // of tensors
  std::string_view layers;                   // what comes before a layer's number
  bool tied = false;                         // tie_word_embeddings, where config.json has none
  bool norms_from_zero = false;              // weights of norms are stored less 1
};

// ---- numbers ----

// Refuses a member that would change what the model computes.
void want(const JsonObject& config, std::string_view key, const Json& wanted) {
  const Json* value = config.find(key);
  if (value != nullptr && *value != wanted)
    config.refuse(key, fmt::format("is {}; here only {} is known", value->dump().substr(0, 80),
                                   wanted.dump()));
}

void want_activation(const JsonObject& config, std::initializer_list<std::string_view> keys,
                     std::initializer_list<std::string_view> known) {
  for (const std::string_view key : keys) {
    const std::string* name = config.find_string(key);
    if (name != nullptr && std::ranges::find(known, *name) == known.end())
      config.refuse(key,
                    fmt::format("is {}; here only {} is known", in_quotes(*name), *known.begin()));
  }
}

// Of the rotated dimensions of a head, in pairs: what divides each pair's frequency (Llama 3.1).
std::vector<float> llama3_factors(const JsonObject& scaling, uint64_t rotated, double base) {
  const double factor = scaling.get_number("factor"), low = scaling.get_number("low_freq_factor"),
               high = scaling.get_number("high_freq_factor"),
               context = scaling.get_number("original_max_position_embeddings");
  if (!(factor > 0 && low > 0 && high > low && context >= 1)) {
    fail("{}: factor {}, low_freq_factor {}, high_freq_factor {}, original context {}",
         scaling.source(), factor, low, high, context);
  }
  std::vector<float> factors;
  for (uint64_t i = 0; i < rotated / 2; ++i) {
    const double turns = context * std::pow(base, -2.0 * double(i) / double(rotated)) /
                         (2 * std::numbers::pi);  // over the original context
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    factors.push_back(float(1 / (kept + (1 - kept) / factor)));
  }
  return factors;
}

void add_tensor(ModelFile& out, std::string_view name, std::span<const float> values) {
  const auto data = out.allocate(values.size_bytes());
  std::memcpy(data.data(), values.data(), data.size());
  out.add({.name = name, .type = TensorType::f32, .shape = {values.size()}, .data = data});
}

// `rope`: rope_scaling, or rope_parameters, its name since transformers 5.
void translate_scaling(const Translation& to, const JsonObject& rope, uint64_t rotated,
                       double base) {
  const std::string* type = rope.find_string("rope_type");
  if (type == nullptr) type = rope.find_string("type");  // its older name
  if (type == nullptr || *type == "default") return;
  if (*type == "llama3") {
    add_tensor(to.out, "rope_freqs.weight", llama3_factors(rope, rotated, base));
    return;
  }
  if (*type != "linear" && *type != "yarn")
    fail("{}: scaling of type {} is not known here (linear, yarn, llama3)", rope.source(),
         in_quotes(*type));
  to.set("rope.scaling.type", std::string_view(*type == "yarn" ? "yarn" : "linear"));
  to.set("rope.scaling.factor", rope.get_number("factor"));
  if (*type == "linear") return;
  to.set("rope.scaling.original_context_length",
         rope.find_uint("original_max_position_embeddings")
             .value_or(to.config.get_uint("max_position_embeddings")));
  for (const auto& [key, usual] : {std::pair("beta_fast", 32.0), std::pair("beta_slow", 1.0)}) {
    if (rope.find_number(key).value_or(usual) != usual)
      rope.refuse(key, fmt::format("is not {}, which alone is known here", usual));
  }
  for (const std::string_view key : {"attention_factor", "mscale", "mscale_all_dim"}) {
    if (rope.find(key) != nullptr) rope.refuse(key, "is not known here");
  }
  want(rope, "truncate", true);
}

uint64_t heads_of(const JsonObject& config) {
  const uint64_t heads = config.get_uint("num_attention_heads");
  if (heads == 0) config.refuse("num_attention_heads", "is 0");
  return heads;
}

void translate_dimensions(const Translation& to) {
  to.set("context_length", to.config.get_uint("max_position_embeddings"));
  to.set("embedding_length", to.config.get_uint("hidden_size"));
  to.set("feed_forward_length", to.config.get_uint("intermediate_size"));
  to.set("block_count", to.config.get_uint("num_hidden_layers"));
  to.set("attention.head_count", heads_of(to.config));
}

// All but RoPE's base and scaling, which depend on the family.
void translate_decoder(const Translation& to) {
  const JsonObject& config = to.config;
  translate_dimensions(to);
  const uint64_t heads = heads_of(config);
  const uint64_t head =
      config.find_uint("head_dim").value_or(config.get_uint("hidden_size") / heads);
  to.set("attention.head_count_kv", config.find_uint("num_key_value_heads").value_or(heads));
  to.set("attention.key_length", head);
  to.set("attention.value_length", head);
  to.set("attention.layer_norm_rms_epsilon", config.find_number("rms_norm_eps").value_or(1e-6));
  to.set("rope.interleaved", false);

  std::optional<double> part = config.find_number("partial_rotary_factor");
  if (const auto rope = config.find_object("rope_parameters"); rope && !part)
    part = rope->find_number("partial_rotary_factor");
  const double rotated = double(head) * part.value_or(1);
  if (!(rotated >= 2 && rotated <= double(head)))
    fail("{}: RoPE turns {} of the {} dimensions of a head", config.source(), rotated, head);
  to.set("rope.dimension_count", uint64_t(rotated));
}

void translate_rope(const Translation& to, std::string_view key, double usual_base) {
  const JsonObject& config = to.config;
  const uint64_t rotated = to.out.get_uint(fmt::format("{}.rope.dimension_count", to.architecture));
  std::optional<JsonObject> rope = config.find_object("rope_parameters");
  if (rope && !key.empty() && rope->find(key) != nullptr) rope = rope->find_object(key);
  if (!rope) rope = config.find_object("rope_scaling");
  std::optional<double> base = rope ? rope->find_number("rope_theta") : std::nullopt;
  if (!base) base = config.find_number("rope_theta").value_or(usual_base);
  to.set("rope.freq_base", *base);
  if (rope) translate_scaling(to, *rope, rotated, *base);
}

void llama(const Translation& to) {
  want_activation(to.config, {"hidden_act"}, {"silu", "swish"});
  want(to.config, "pretraining_tp", 1);
  translate_decoder(to);
  translate_rope(to, "", 10000);
}

void mistral(const Translation& to) {
  llama(to);
  if (const auto window = to.config.find_uint("sliding_window"))
    to.set("attention.sliding_window", *window);
}

void qwen(const Translation& to) {
  want(to.config, "use_sliding_window", false);
  llama(to);
}

void granite(const Translation& to) {
  llama(to);
  const std::pair<std::string_view, std::string_view> scales[] = {
      {"embedding_multiplier", "embedding_scale"},
      {"residual_multiplier", "residual_scale"},
      {"attention_multiplier", "attention.scale"},
      {"logits_scaling", "logit_scale"}};
  for (const auto& [here, gguf] : scales) to.set(gguf, to.config.get_number(here));
}

void gemma3(const Translation& to) {
  const JsonObject& config = to.config;
  want_activation(config, {"hidden_activation", "hidden_act"}, {"gelu_pytorch_tanh"});
  for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"})
    if (config.find(key) != nullptr) config.refuse(key, "is not known here");
  want(config, "use_bidirectional_attention", false);
  translate_decoder(to);
  translate_rope(to, "full_attention", 1e6);
  std::optional<double> local = config.find_number("rope_local_base_freq");
  if (const auto rope = config.find_object("rope_parameters"))
    if (const auto sliding = rope->find_object("sliding_attention")) {
      want(*sliding, "rope_type", "default");
      local = sliding->find_number("rope_theta");
    }
  to.set("rope.freq_base_swa", local.value_or(10000));
  to.set("attention.sliding_window", config.find_uint("sliding_window").value_or(4096));

  // Since transformers 4.52 what each layer is; before that, a period.
  uint64_t period = config.find_uint("sliding_window_pattern").value_or(6);
  if (const Json* types = config.find("layer_types")) {
    const uint64_t layers = config.get_uint("num_hidden_layers");
    if (!types->is_array() || types->size() != layers)
      config.refuse("layer_types", fmt::format("is no list of {} layers", layers));
    period = uint64_t(std::ranges::find(*types, "full_attention") - types->begin()) + 1;
    for (uint64_t i = 0; i < layers; ++i) {
      const bool full = (i + 1) % period == 0;
      if ((*types)[i] != (full ? "full_attention" : "sliding_attention"))
        config.refuse("layer_types",
                      fmt::format("has {} for layer {}; here one of {} sees all, the last",
                                  (*types)[i].dump().substr(0, 80), i, period));
    }
  }
  if (period == 0) config.refuse("sliding_window_pattern", "is 0");
  to.set("attention.sliding_window_pattern", period);

  const uint64_t head =
      config.find_uint("head_dim").value_or(config.get_uint("hidden_size") / heads_of(config));
  const double scalar = config.find_number("query_pre_attn_scalar").value_or(double(head));
  if (!(scalar > 0)) config.refuse("query_pre_attn_scalar", "is not above 0");
  to.set("attention.scale", 1 / std::sqrt(scalar));
}

void bert(const Translation& to) {
  const JsonObject& config = to.config;
  want_activation(config, {"hidden_act"}, {"gelu"});
  want(config, "position_embedding_type", "absolute");
  want(config, "is_decoder", false);
  translate_dimensions(to);
  to.set("attention.layer_norm_epsilon", config.find_number("layer_norm_eps").value_or(1e-12));
  to.set("attention.causal", false);
  to.out.set("tokenizer.ggml.token_type_count", config.find_uint("type_vocab_size").value_or(2));

  // What sentence-transformers makes of the rows, in a folder of its own.
  const JsonObject pooling = JsonObject::read_if_there(to.out.path() / "1_Pooling" / "config.json");
  const std::pair<std::string_view, uint32_t> modes[] = {{"pooling_mode_mean_tokens", 1},
                                                         {"pooling_mode_cls_token", 2},
                                                         {"pooling_mode_lasttoken", 3}};
  std::optional<uint32_t> chosen;
  for (const auto& [key, value] : pooling.json().items()) {
    if (!key.starts_with("pooling_mode") || !value.is_boolean() || !value.get<bool>()) continue;
    const auto* mode = std::ranges::find(modes, key, [](const auto& known) { return known.first; });
    if (mode == std::end(modes) || chosen)
      pooling.refuse(key, "is not known here, or not with others");
    chosen = mode->second;
  }
  if (chosen) to.set("pooling_type", *chosen);
  // Where it cuts texts. GGUF has no word for it.
  constexpr std::string_view longest = "max_seq_length";
  const auto sentence = JsonObject::read_if_there(to.out.path() / "sentence_bert_config.json");
  if (const auto tokens = sentence.find_uint(longest)) {
    if (*tokens < 3) sentence.refuse(longest, fmt::format("is {}, want 3 or more", *tokens));
    to.set(longest, std::min(*tokens, config.get_uint("max_position_embeddings")));
  }
}

constexpr std::string_view kLayers = "model.layers.", kBertLayers = "encoder.layer.";

const Family kFamilies[] = {
    {"LlamaForCausalLM", "llama", llama, kDecoder, kLlamaLayer, kLayers},
    {"MistralForCausalLM", "llama", mistral, kDecoder, kLlamaLayer, kLayers},
    {"Qwen2ForCausalLM", "qwen2", qwen, kDecoder, kLlamaLayer, kLayers},
    {"Qwen3ForCausalLM", "qwen3", qwen, kDecoder, kLlamaLayer, kLayers},
    {"GraniteForCausalLM", "granite", granite, kDecoder, kLlamaLayer, kLayers},
    {"Gemma3ForCausalLM", "gemma3", gemma3, kDecoder, kGemma3Layer, kLayers, true, true},
    {"BertModel", "bert", bert, kBert, kBertLayer, kBertLayers}};

const Family& family_of(const JsonObject& config) {
  const Json& names = config.get("architectures");
  if (!names.is_array() || names.size() != 1 || !names[0].is_string())
    config.refuse("architectures", "is no list of one name");
  const auto& name = names[0].get_ref<const std::string&>();
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.here == name) return family;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family.here);
  }
  fail("{}: architecture {} is not read; there are {}", config.source(), in_quotes(name), known);
}

// ---- tensors ----

// "blk.3.attn_q.weight" of "model.layers.3.self_attn.q_proj.weight"; nothing for what no model here
// has, empty for what holds nothing of its own.
std::optional<std::string> gguf_name(const Family& family, std::string_view name) {
  if (family.gguf == "bert") {
    if (name.starts_with("bert.")) name.remove_prefix(5);
    if (name == "embeddings.position_ids" || name.starts_with("pooler.dense.")) return "";
  }
  if (name.ends_with("rotary_emb.inv_freq")) return "";
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  const std::string_view suffix = name.substr(dot);
  if (suffix != ".weight" && suffix != ".bias") return std::nullopt;
  name = name.substr(0, dot);

  std::span<const Name> names = family.names;
  std::string prefix;
  if (name.starts_with(family.layers)) {
    name.remove_prefix(family.layers.size());
    uint32_t layer = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
    const size_t digits = size_t(end - name.data());
    prefix = fmt::format("blk.{}.", layer);
    if (error != std::errc() || !name.substr(digits).starts_with('.') ||
        prefix.size() != digits + 5)  // "03"
      return std::nullopt;
    name.remove_prefix(digits + 1);
    names = family.layer;
  }
  const auto found = std::ranges::find(names, name, &Name::here);
  if (found == names.end()) return std::nullopt;
  return fmt::format("{}{}{}", prefix, found->gguf, suffix);
}

struct Located {
  SafeTensor tensor;
  std::string file;
};

// Of one file, or of those that an index names.
std::vector<Located> read_tensors(const path& folder, ModelFile& out) {
  std::vector<Located> tensors;
  const auto read = [&](const std::string& file) {
    for (SafeTensor& tensor : read_safetensors(folder / file, out))
      tensors.push_back({std::move(tensor), file});
  };
  constexpr const char* kSingle = "model.safetensors";
  const path index_path = folder / "model.safetensors.index.json";
  if (is_there(folder / kSingle)) {
    read(kSingle);
    return tensors;
  }
  if (!is_there(index_path))
    fail("{}: there is neither {} nor {}; other forms of weights are not read", folder.string(),
         kSingle, index_path.filename().string());

  const JsonObject index = JsonObject::read(index_path);
  const JsonObject map(fmt::format("{}: \"weight_map\"", index.source()), index.get("weight_map"));
  std::set<std::string> files;
  for (const auto& [name, file] : map.json().items()) {
    const std::string& plain = map.get_string(name);
    if (plain.find_first_of("/\\") != plain.npos || !plain.ends_with(".safetensors"))
      fail("{}: {} is in {}, which is no name of a safetensors file", map.source(), in_quotes(name),
           in_quotes(plain));
    files.insert(plain);
  }
  for (const std::string& file : files) {
    if (!is_there(folder / file))
      fail("{}: the index names this file, which is missing", (folder / file).string());
    read(file);
  }
  std::map<std::string_view, std::string_view> found;
  for (const Located& located : tensors) {
    const std::string_view name = located.tensor.name;
    const auto [other, is_new] = found.emplace(name, located.file);
    if (!is_new)
      fail("{}: tensor {} is in {}, too", (folder / located.file).string(), in_quotes(name),
           other->second);
    const std::string* says = map.find_string(name);
    if (says == nullptr || *says != located.file)
      fail("{}: tensor {} is in {}, but the index {}", map.source(), in_quotes(name), located.file,
           says != nullptr ? "says " + *says : "does not have it");
  }
  for (const auto& [name, file] : map.json().items())
    if (!found.contains(name))
      fail("{}: tensor {} is not in {}", map.source(), in_quotes(name),
           file.get_ref<const std::string&>());
  return tensors;
}

TensorType type_of(const Located& located, const path& folder) {
  const std::pair<std::string_view, TensorType> types[] = {
      {"F32", TensorType::f32}, {"F16", TensorType::f16}, {"BF16", TensorType::bf16}};
  for (const auto& [name, type] : types)
    if (name == located.tensor.dtype) return type;
  fail("{}: tensor {} is of type {}; F32, F16 and BF16 are read", (folder / located.file).string(),
       in_quotes(located.tensor.name), located.tensor.dtype);
}

void translate_tensors(const Family& family, const JsonObject& config, ModelFile& out) {
  const path& folder = out.path();
  const bool tied = config.find_bool("tie_word_embeddings").value_or(family.tied);
  for (const Located& located : read_tensors(folder, out)) {
    const std::string_view here = located.tensor.name;
    const std::optional<std::string> name = gguf_name(family, here);
    if (!name)
      fail("{}: tensor {} is none of {}", (folder / located.file).string(), in_quotes(here),
           family.here);
    if (name->empty() || (*name == "output.weight" && tied)) continue;
    TensorInfo tensor{.name = out.keep(*name),
                      .type = type_of(located, folder),
                      .shape = located.tensor.shape,
                      .data = located.tensor.data};
    const std::optional<uint64_t> vocabulary = config.find_uint("vocab_size");
    if (vocabulary && name == "token_embd.weight" && tensor.rows() != *vocabulary)
      config.refuse("vocab_size", fmt::format("is {}, but the tensor {} has {} rows", *vocabulary,
                                              in_quotes(here), tensor.rows()));
    if (family.norms_from_zero && name->ends_with("norm.weight")) {
      std::vector<float> values(tensor.elements());
      decode(tensor.type, tensor.data, values);
      for (float& value : values) value += 1;
      tensor.type = TensorType::f32;
      const auto data = out.allocate(values.size() * sizeof(float));
      std::memcpy(data.data(), values.data(), data.size());
      tensor.data = data;
    }
    if (!out.add(tensor))
      fail("{}: tensor {} is there under two names", folder.string(), in_quotes(*name));
  }
  const bool decoder = family.gguf != "bert";
  if (decoder && !tied && out.find_tensor("output.weight") == nullptr)
    fail("{}: there is no tensor \"lm_head.weight\", and tie_word_embeddings is not true",
         folder.string());
}

}  // namespace

ModelFile read_hugging_face(const path& folder) {
  const JsonObject config = JsonObject::read(folder / "config.json");
  ModelFile out(folder, "Hugging Face folder");
  const Family& family = family_of(config);
  if (config.find("quantization_config") != nullptr)
    config.refuse("quantization_config",
                  "is there, but only F32, F16 and BF16 are read: take the "
                  "original model, or a GGUF file");
  out.set("general.architecture", family.gguf);
  const path full = std::filesystem::absolute(folder).lexically_normal();
  out.set("general.name", out.keep((full.has_filename() ? full : full.parent_path()).filename()));
  family.translate({.config = config, .out = out, .architecture = family.gguf});
  translate_tensors(family, config, out);
  read_hugging_face_tokenizer(folder, config, out);
  return out;
}

}  // namespace ms
