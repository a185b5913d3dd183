// engine.cpp: the decode loop and what surrounds it.
#include "engine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <future>

#include "engine/guidance.hpp"
#include "engine/step_trial.hpp"
#include "engine/steps_ahead.hpp"
#include "engine/stop.hpp"
#include "gpu/tuning.hpp"
#include "kernels/sources.hpp"
#include "text/utf8.hpp"

namespace ms {

namespace {

constexpr size_t kept_prefills = 4;  // recordings of prompt lengths seen before

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Cuts the names of control tokens in the text of messages, so that they are text to the tokenizer,
// too: one of Unicode's noncharacters, which no text has, and which templates pass on.
constexpr std::string_view cut = "\uFDD0", replacement = "\uFFFD";

using NamesByFirst = std::map<char, std::vector<std::string>>;

void cut_names(std::string& text, const NamesByFirst& names) {
  for (size_t at = 0; (at = text.find(cut, at)) != std::string::npos;)
    text.replace(at, cut.size(), replacement);
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = std::string_view(text).substr(at);
    size_t length = 1;  // of a character
    while (length < rest.size() && (rest[length] & 0xc0) == 0x80) ++length;
    result += rest.substr(0, length);
    const auto found = names.find(rest.front());
    if (found != names.end() &&
        std::ranges::any_of(found->second, [&](auto& name) { return rest.starts_with(name); }))
      result += cut;
    at += length;
  }
  text = std::move(result);
}

// In every text of a JSON value, keys among them.
void cut_names(ChatTemplate::Json& value, const NamesByFirst& names) {
  if (value.is_string()) cut_names(value.get_ref<std::string&>(), names);
  if (value.is_array())
    for (auto& element : value) cut_names(element, names);
  if (!value.is_object()) return;
  auto object = ChatTemplate::Json::object();
  for (auto& [name, element] : value.items()) {
    std::string key = name;
    cut_names(key, names);
    cut_names(element, names);
    object[key] = std::move(element);
  }
  value = std::move(object);
}

void append_floats(std::vector<float>& to, std::span<const std::byte> bytes) {
  const size_t size = to.size();
  to.resize(size + bytes.size() / sizeof(float));
  std::memcpy(to.data() + size, bytes.data(), bytes.size());
}

// Whether any token that a mask allows, if there is one, has a logit that is a number.
bool has_number(std::span<const float> logits, std::span<const uint32_t> mask) {
  for (size_t id = 0; id < logits.size(); ++id)
    if (std::isfinite(logits[id]) && (mask.empty() || mask[id / 32] >> id % 32 & 1)) return true;
  return false;
}

// What an encoder cannot have is refused, not ignored.
void check_encoder_options(const EngineOptions& options, const Config& config) {
  const std::string model = options.model.string();
  const ModelOptions& o = options.options;
  if (o.context > config.context)
    fail("{}: the encoder has {} positions, and cannot have a context of {} (-c)", model,
         config.context, o.context);
  if (o.kv_type != KvType::f16)
    fail("{} is an encoder: it has no KV cache that could be {} (-ctk, -ctv)", model,
         to_string(o.kv_type));
  if (o.step == Step::persistent)
    fail("{} is an encoder: it takes no steps that could be persistent (--step)", model);
  if (o.activations == ActivationType::int16)
    fail("{} is an encoder: it cannot round activations to 16 bits (--activations)", model);
}

}  // namespace

void check_sampling(const Sampling& s) {
  require(std::isfinite(s.temperature) && s.temperature >= 0, "temperature is {}, want 0 or more",
          s.temperature);
  require(s.top_p > 0 && s.top_p <= 1, "top-p is {}, want more than 0, at most 1", s.top_p);
  require(s.min_p >= 0 && s.min_p <= 1, "min-p is {}, want 0 to 1", s.min_p);
  require(std::isfinite(s.repeat_penalty) && s.repeat_penalty > 0,
          "repeat penalty is {}, want more than 0", s.repeat_penalty);
  require(std::isfinite(s.presence_penalty) && std::isfinite(s.frequency_penalty),
          "presence and frequency penalties are {} and {}, want numbers", s.presence_penalty,
          s.frequency_penalty);
}

Engine::Engine(const EngineOptions& options, bool)
    : progress_(options.progress), tuning_folder_(options.device.tuning), notice_(options.notice) {}

void Engine::open_device(gpu::DeviceOptions options) {
  options.sources = wgsl_sources();
  device_ = gpu::Device::open(options);
}

Engine::Engine(const EngineOptions& options) : Engine(options, true) {
  const ModelFile file = open_model(options.model);
  const bool encoder = ms::is_encoder(file);
  const Config config = encoder ? encoder_config(file) : config_of(file);
  if (encoder) check_encoder_options(options, config);
  // A vocabulary is read while the device opens: each takes a while.
  std::future<void> text = std::async(std::launch::async, [&] { read_text(file, config.vocab); });
  open_device(options.device);
  text.get();
  if (encoder)
    encoder_ = std::make_unique<Encoder>(*device_, config, Catalog::of(file),
                                         options.options.context, weights_progress());
  else
    load(config, Catalog::of(file), options.options);
}

Engine::Engine(const EngineOptions& options, const Config& config, std::string_view type, bool tied)
    : Engine(options, true) {
  open_device(options.device);
  load(config, Catalog::synthetic(config, type, tied), options.options);
}

void Engine::read_text(const ModelFile& file, uint32_t vocab) {
  if (!Tokenizer::is_in(file)) return;
  tokenizer_ = Tokenizer::from_file(file);
  if (tokenizer_->vocab_size() > vocab)
    fail("{}: the tokenizer has {} tokens, the embedding {} rows", file.path().string(),
         tokenizer_->vocab_size(), vocab);
  template_ = ChatTemplate::from_file(file, *tokenizer_);
  for (uint32_t token = 0; token < tokenizer_->vocab_size(); ++token)
    if (const auto name = tokenizer_->piece(token); tokenizer_->is_control(token) && !name.empty())
      control_names_[name.front()].emplace_back(name);
}

void Engine::load(const Config& config, const Catalog& catalog, const ModelOptions& options) {
  model_ = std::make_unique<Decoder>(*device_, config, catalog, options, weights_progress());
  const bool decided = options.step != Step::automatic || choose_step(false);
  // A GPU's compiler works beside the threads that read weights; a CPU's would take their cores,
  // for steps that may never be asked for.
  if (!device_->caps().cpu) {
    device_->prepare(model_->decode(1));
    device_->prepare(model_->sample(1, false));
  }
  model_->load();
  if (!decided) choose_step(true);
}

bool Engine::choose_step(bool may_test) {
  const gpu::Caps& caps = device_->caps();
  if (caps.cpu || !model_->use_persistent(0).empty()) {
    use_chain();
    return true;
  }
  // Another text of a kernel is another kernel.
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const WgslSource& source : wgsl_sources())
    for (const char c : source.text) hash = (hash ^ uint8_t(c)) * 0x100000001b3;
  const Config& c = config();
  const std::string key =
      fmt::format("persistent step {:016x} {} [{}, {}, {}, {}, {}], {} bytes, {} cache", hash,
                  c.architecture->name, c.layers, c.dim, c.heads, c.kv_heads, c.ffn,
                  model_->bytes_per_token(), to_string(model_->options().kv_type));
  gpu::Tuning known = caps.tuning ? *caps.tuning : gpu::Tuning();
  if (!known.contains(key) && !may_test) {
    use_chain();
    return false;
  }
  if (!known.contains(key)) {
    const StepTrial trial =
        try_persistent_steps(*this, 1000, 0.005, [&](uint64_t done, uint64_t all) {
          if (progress_) progress_("trial", done, all);
        });
    if (progress_) progress_("trial", 1, 1);  // one that gave up ends here, too
    known[key] = {{"GROUPS", trial.groups}};
    device_->tune(std::make_shared<const gpu::Tuning>(known));
    if (tuning_folder_.empty()) return true;
    try {
      gpu::save_tuning(gpu::tuning_file(tuning_folder_, caps), known);
    } catch (const Error&) {  // tested again next time
    }
    return true;
  }
  const uint32_t groups = known[key]["GROUPS"];
  if (!groups || !use_persistent(groups).empty()) use_chain();
  return true;
}

std::function<void(uint64_t, uint64_t)> Engine::weights_progress() const {
  return [this](uint64_t done, uint64_t all) {
    if (progress_) progress_("weights", done, all);
  };
}

Decoder& Engine::model() const {
  if (!model_)
    fail("{} is an encoder: it makes embeddings (mainspring embed), and no text",
         encoder_->config().name);
  return *model_;
}

const Tokenizer& Engine::tokenizer() const {
  if (!tokenizer_)
    fail("the model file has no tokenizer (tokenizer.ggml.model): give token ids instead of text");
  return *tokenizer_;
}

std::vector<uint32_t> Engine::encode(std::string_view text) const {
  Tokenizer::EncodeOptions options{.add_special = true, .parse_special = false};
  if (const uint32_t longest = config().longest_text; longest > 0 && longest <= context())
    options.most = longest;
  return tokenizer().encode(text, options);
}

std::vector<uint32_t> Engine::encode_chat(const ChatTemplate::Json& messages,
                                          const ChatTemplate::Options& options) const {
  if (!template_) fail("the model file has no chat template (tokenizer.chat_template): use --raw");
  ChatTemplate::Json harmless = messages;
  ChatTemplate::Options harmless_options = options;
  cut_names(harmless, control_names_);
  cut_names(harmless_options.tools, control_names_);
  cut_names(harmless_options.variables, control_names_);
  const std::string text = template_->render(harmless, harmless_options);
  std::vector<uint32_t> tokens;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(cut, begin), text.size());
    const auto piece = tokenizer().encode(std::string_view(text).substr(begin, end - begin),
                                          {.add_special = false, .parse_special = true});
    tokens.insert(tokens.end(), piece.begin(), piece.end());
    begin = end + cut.size();
  }
  // As llama.cpp does, and transformers do not: templates leave it out where the tokenizer adds it
  // to any text, and models that are used to it fail without.
  if (tokenizer().adds_bos() && (tokens.empty() || tokens.front() != tokenizer().bos()))
    tokens.insert(tokens.begin(), *tokenizer().bos());
  return tokens;
}

void Engine::check_tokens(std::span<const uint32_t> tokens) const {
  const uint32_t vocab = config().vocab;
  for (size_t i = 0; i < tokens.size(); ++i)
    require(tokens[i] < vocab, "token {} is {}; the vocabulary has {}", i, tokens[i], vocab);
}

gpu::Recording Engine::record(gpu::Work work) {
  return device_->record(std::move(work), [&](size_t done, size_t all) {
    if (progress_) progress_("pipelines", done, all);
  });
}

const gpu::Recording& Engine::step(bool greedy, uint32_t slots) {
  const auto found = steps_.find({greedy, slots});
  if (found != steps_.end()) return found->second;
  gpu::Work work = model_->decode(slots);
  work += model_->sample(slots, greedy);
  return steps_.emplace(std::pair(greedy, slots), record(std::move(work))).first->second;
}

const gpu::Recording& Engine::decode_recording() {
  if (!decode_) decode_ = record(model_->decode(1));
  return *decode_;
}

const gpu::Recording& Engine::guided_sampler(bool masked, uint32_t biases) {
  const std::pair form(masked, biases);
  if (sampler_ && sampler_form_ == form) return *sampler_;
  const uint32_t words = (model_->config().vocab + 31) / 32;
  gpu::View mask, bias;
  if (masked && !mask_) mask_ = device_->buffer(4ull * words, "mask");
  if (masked) mask = gpu::view(mask_, {1, words}, gpu::Type::u32);
  sampler_.reset();  // reads the bias that is replaced
  if (biases > 0) {
    bias_ = device_->buffer(8ull * biases, "bias");
    bias = gpu::view(bias_, {1, biases, 2}, gpu::Type::u32);
  }
  sampler_ = record(model_->sample(1, false, mask, bias));
  sampler_form_ = form;
  return *sampler_;
}

const gpu::Recording& Engine::prefill_recording(uint32_t rows, Decoder::Want want, uint32_t slot) {
  const auto found = prefills_.find({rows, want, slot});
  if (found != prefills_.end()) return found->second;
  if (prefills_.size() >= kept_prefills)
    prefills_.erase(prefills_.begin());  // the shortest: whole batches stay
  return prefills_
      .emplace(std::tuple(rows, want, slot),
               record(encoder_ ? encoder_->encode(rows) : model_->prefill(rows, slot, want)))
      .first->second;
}

bool Engine::stalled() {
  if (model_->options().step == Step::chain) return false;
  const auto bytes = device_->read(*model_->slots().buffer, 0, sizeof(Slot));
  Slot slot;
  std::memcpy(&slot, bytes.data(), sizeof(slot));
  return slot.stopped == Stopped::stalled;
}

void Engine::fall_back() {
  use_chain();
  if (notice_)
    notice_(
        "a persistent step stalled: this device does not run all its workgroups at once; "
        "steps are chains of kernels from here on (--step chain)");
}

void Engine::use_chain() {
  model_->use_chain();
  decode_.reset();
  steps_.clear();
}

std::string Engine::use_persistent(uint32_t groups) {
  decode_.reset();
  steps_.clear();
  return model_->use_persistent(groups);
}

void Engine::write_slot(const Slot& slot, uint32_t index) {
  require(index < model_->options().slots, "slot {}: there are {}", index, model_->options().slots);
  if (index == 0) evaluated_.clear();
  set_slot(slot, index);
}

void Engine::set_slot(const Slot& slot, uint32_t index) {
  device_->write(*model_->slots().buffer, index * sizeof(Slot), std::as_bytes(std::span(&slot, 1)));
}

bool Engine::prefill(std::span<const uint32_t> tokens, uint32_t start,
                     const std::function<bool()>& keep_going, uint32_t slot) {
  require(slot < model_->options().slots, "slot {}: there are {}", slot, model_->options().slots);
  // What is overwritten counts no more, what overwrites it when it is on its way; behind positions
  // of which nothing is known, neither.
  const bool known = slot == 0 && start <= evaluated_.size();
  if (slot == 0) evaluated_.resize(known ? start : 0);
  while (!tokens.empty()) {
    const uint32_t rows = uint32_t(std::min<size_t>(tokens.size(), model_->options().batch));
    device_->write(*model_->tokens().buffer, 0, std::as_bytes(tokens.first(rows)));
    set_slot({.position = start, .stopped = Stopped::running}, slot);
    device_->submit(prefill_recording(rows, Decoder::Want::nothing, slot));
    if (known) evaluated_.insert(evaluated_.end(), tokens.begin(), tokens.begin() + rows);
    tokens = tokens.subspan(rows);
    start += rows;
    if (!keep_going) continue;
    device_->finish();
    if (!keep_going()) return false;
  }
  return true;
}

Generation Engine::generate(std::span<const uint32_t> prompt, const Request& request,
                            const OnText& on_text, const std::function<bool()>& keep_going) {
  const uint32_t context = model().context();
  const Sampling& s = request.sampling;
  check_sampling(s);
  check_tokens(prompt);
  require(request.max_tokens >= -1, "max tokens is {}, want -1 (no limit) or more",
          request.max_tokens);
  if (prompt.empty())
    fail("the prompt is empty, and the model has no beginning-of-text token to start from");
  if (prompt.size() > context)
    fail("the prompt has {} tokens, the context holds {}: shorten it, or raise the context (-c)",
         prompt.size(), context);

  Guidance guidance(request, tokenizer_ ? &*tokenizer_ : nullptr, model_->config().vocab);

  Generation result;
  result.prompt_tokens = uint32_t(prompt.size());
  auto start = Clock::now();
  const bool greedy = s.temperature == 0 &&
                      (s.repeat_last_n == 0 || (s.repeat_penalty == 1 && s.presence_penalty == 0 &&
                                                s.frequency_penalty == 0));
  const gpu::Recording *recording = nullptr, *sampler = nullptr;
  const auto choose_recordings = [&] {
    recording = guidance.any() ? &decode_recording() : &step(greedy);
    if (!guidance.any()) return;
    sampler = &guided_sampler(guidance.has_grammar(), uint32_t(guidance.bias().size() / 2));
    if (!guidance.bias().empty()) device_->write(*bias_, 0, std::as_bytes(guidance.bias()));
  };
  choose_recordings();
  const uint32_t filled = uint32_t(prompt.size()) - 1, batch = model_->options().batch;
  // What the cache holds already of the prompt but its last token, which is the first step's.
  const uint32_t cached =
      uint32_t(std::ranges::mismatch(prompt.first(filled), evaluated_).in1 - prompt.begin());
  const uint32_t rest = filled - cached;
  result.cached_tokens = cached;
  if (rest >= batch) prefill_recording(batch, Decoder::Want::nothing);
  if (rest % batch) prefill_recording(rest % batch, Decoder::Want::nothing);
  result.record_seconds = seconds_since(start);

  start = Clock::now();
  if (!prefill(prompt.subspan(cached, rest), cached, keep_going)) {
    result.finish = Finish::cancelled;
    return result;
  }
  device_->write(*model_->history().buffer, 0, std::as_bytes(prompt));
  if (request.max_tokens == 0) {
    device_->finish();
    result.prompt_seconds = seconds_since(start);
    return result;
  }

  // The slot's limit ends the generation on the GPU: positions that may be filled.
  const uint64_t wanted =
      request.max_tokens < 0 ? context : prompt.size() + uint64_t(request.max_tokens) - 1;
  Slot slot{.token = prompt.back(),
            .position = filled,
            .limit = uint32_t(std::min<uint64_t>(context, wanted)),
            .stopped = Stopped::running,
            .seed = s.seed,
            .temperature = s.temperature,
            .top_k = s.top_k,
            .top_p = s.top_p,
            .min_p = s.min_p,
            .repeat_penalty = s.repeat_penalty,
            .presence_penalty = s.presence_penalty,
            .frequency_penalty = s.frequency_penalty,
            .penalty_last_n = s.repeat_last_n};
  if (!request.ignore_eos && tokenizer_) {
    const auto stops = tokenizer_->stop_tokens();
    if (stops.size() > std::size(slot.stop_tokens))
      fail("the vocabulary has {} tokens that end a turn; at most {} are handled", stops.size(),
           std::size(slot.stop_tokens));
    slot.stop_count = uint32_t(stops.size());
    std::ranges::copy(stops, slot.stop_tokens);
  }
  set_slot(slot);
  device_->finish();
  result.prompt_seconds = seconds_since(start);

  const auto begin = Clock::now();
  StopMatcher matcher(request.stop);
  Utf8Stream utf8;
  // An embedding may have more rows than the vocabulary has tokens: those have no text.
  const auto is_control = [&](uint32_t token) {
    return token >= tokenizer_->vocab_size() || tokenizer_->is_control(token);
  };
  // To a grammar a space in front is text like any other.
  bool after_special = tokenizer_ && is_control(prompt.back()) && !guidance.has_grammar();
  const auto show = [&](const std::string& text) {
    result.text += text;
    return text.empty() || !on_text || on_text(text);
  };
  const gpu::View state = model_->slots().slice(0, {4});  // token, position, limit, stopped
  StepsAhead ahead(*device_);
  uint32_t left = slot.limit - filled;  // steps until the limit
  Stopped stopped = Stopped::running;
  bool wanted_more = true, complete = false;  // by the grammar
  // Steps after the last token that counts are taken again, since they were of another kind.
  const auto take_again = [&] {
    slot.token = result.tokens.empty() ? prompt.back() : result.tokens.back();
    slot.position = filled + uint32_t(result.tokens.size());
    set_slot(slot);
    left = slot.limit - slot.position;
    choose_recordings();
  };
  while (stopped == Stopped::running && wanted_more && !complete) {
    std::vector<float> logits;
    std::span<const uint32_t> mask;
    if (!sampler) {
      left -= ahead.fill(*recording, state, left);
    } else {
      if (guidance.wants_logits())
        ahead.submit(*recording, model_->logits());
      else
        device_->submit(*recording);
      if (guidance.has_grammar()) {  // while the device works
        mask = guidance.mask();
        if (mask.empty()) {
          complete = true;
          break;
        }
        device_->write(*mask_, 0, std::as_bytes(mask));
      }
      ahead.submit(*sampler, state);
      if (guidance.wants_logits()) append_floats(logits, ahead.next());
    }
    uint32_t words[4];
    std::memcpy(words, ahead.next().data(), sizeof(words));
    stopped = Stopped(words[3]);
    if (stopped == Stopped::stalled) {
      while (ahead.size() > 0) ahead.next();
      fall_back();
      take_again();
      stopped = Stopped::running;
      continue;
    }
    const uint32_t token = words[0];
    // Samplers draw this one where no logit is a number. Where steps run ahead the logits are the
    // last one's, which are none either: the cache hands on what is no number.
    if (token == 0) {
      const gpu::View& last = model_->logits();
      if (logits.empty())
        append_floats(logits, device_->read(*last.buffer, last.offset, model_->config().vocab * 4));
      if (!has_number(logits, mask))
        fail("the model's logits are not finite: its weights are broken");
    }
    evaluated_.push_back(result.tokens.empty() ? prompt.back() : result.tokens.back());
    result.tokens.push_back(token);
    result.generate_seconds = seconds_since(begin);
    const bool is_end = stopped == Stopped::token;
    const std::string_view name =
        tokenizer_ && token < tokenizer_->vocab_size() ? tokenizer_->piece(token) : "";
    const bool special = tokenizer_ && is_control(token);
    std::string_view piece = is_end || (special && !guidance.waits_for(name)) ? "" : name;
    if (after_special && tokenizer_->space_prefix() && piece.starts_with(' '))
      piece.remove_prefix(1);
    after_special = special;
    if (guidance.wants_logits()) {
      result.reports.push_back(guidance.report(token, logits));
      result.reports.back().hidden = name.size() - piece.size();
      if (request.on_report) request.on_report(result.reports.back());
    }
    if (!is_end) complete = guidance.commit(token);
    if (keep_going) wanted_more = keep_going();
    if (is_end || !tokenizer_) continue;
    if (guidance.begins(piece) && stopped == Stopped::running) {
      // Steps beyond this one have drawn without the grammar.
      while (ahead.size() > 0) ahead.next();
      take_again();
    }
    if (!show(matcher.push(utf8.push(piece)))) wanted_more = false;
    if (matcher.stopped()) break;
  }
  // Steps that went beyond the end have filled positions behind those that count as evaluated.
  if (!matcher.stopped() && wanted_more) {
    std::string rest = matcher.push(utf8.finish());
    show(rest + matcher.finish());
  }
  if (matcher.stopped())
    result.finish = Finish::stop_string;
  else if (!wanted_more)
    result.finish = Finish::cancelled;
  else if (stopped == Stopped::token || complete)
    result.finish = Finish::stop_token;
  else if (request.max_tokens >= 0 && wanted <= context)
    result.finish = Finish::max_tokens;
  else
    result.finish = Finish::context_full;
  return result;
}

std::vector<float> Engine::logits(std::span<const uint32_t> tokens, std::span<const uint32_t> rows,
                                  uint32_t batch) {
  for (uint32_t row : rows)
    require(row < tokens.size(), "logits: row {} of {} tokens", row, tokens.size());
  const size_t vocab = model().config().vocab;
  std::vector<float> all(rows.size() * vocab);
  const uint32_t first = rows.empty() ? uint32_t(tokens.size()) : *std::ranges::min_element(rows);
  each_logits(tokens, first, batch, [&](uint32_t position, std::span<const float> logits) {
    for (size_t i = 0; i < rows.size(); ++i)
      if (rows[i] >= position && (rows[i] - position) * vocab < logits.size())
        std::ranges::copy(logits.subspan((rows[i] - position) * vocab, vocab),
                          all.begin() + std::ptrdiff_t(i * vocab));
  });
  return all;
}

void Engine::each_logits(std::span<const uint32_t> tokens, uint32_t first_row, uint32_t batch,
                         const std::function<void(uint32_t, std::span<const float>)>& on_rows) {
  check_tokens(tokens);
  require(!tokens.empty(), "logits: no tokens");
  require(batch >= 1, "logits: a batch of 0 tokens");
  if (tokens.size() > model_->context())
    fail("{} tokens; the context holds {}: raise it (-c)", tokens.size(), model_->context());
  const uint64_t row_bytes = model_->config().vocab * 4ull;
  const auto hand_out = [&](const gpu::View& logits, uint32_t position, uint32_t count) {
    std::vector<float> values;
    append_floats(values, device_->read(*logits.buffer, logits.offset, count * row_bytes));
    on_rows(position, values);
  };

  evaluated_.clear();
  batch = std::min(batch, model_->options().batch);
  for (uint32_t first = 0; first < tokens.size();) {
    uint32_t count = std::min<uint32_t>(batch, uint32_t(tokens.size()) - first);
    if (first < first_row) count = std::min(count, first_row - first);
    const bool want = first >= first_row;
    if (batch == 1) {
      set_slot({.token = tokens[first],
                .position = first,
                .limit = model_->context(),
                .stopped = Stopped::running});
      device_->submit(decode_recording());
      if (stalled()) {
        fall_back();
        continue;
      }
      if (want) hand_out(model_->logits(), first, 1);
    } else {
      if (want) count = std::min(count, model_->logit_rows());
      device_->write(*model_->tokens().buffer, 0, std::as_bytes(tokens.subspan(first, count)));
      set_slot({.position = first, .stopped = Stopped::running});
      device_->submit(
          prefill_recording(count, want ? Decoder::Want::logits : Decoder::Want::nothing));
      if (want) hand_out(model_->logits_of_rows(count), first, count);
    }
    first += count;
  }
  device_->finish();
}

std::vector<float> Engine::states(std::span<const uint32_t> tokens) {
  check_tokens(tokens);
  if (tokens.empty()) fail("there are no tokens to embed");
  if (tokens.size() > context())
    fail("{} tokens; the context holds {}: shorten the text{}", tokens.size(), context(),
         can_be_longer() ? ", or raise it (-c)" : "");
  std::vector<float> all;
  const gpu::View room = encoder_ ? encoder_->tokens() : model_->tokens();
  const uint32_t batch = encoder_ ? context() : model_->options().batch;
  evaluated_.clear();
  for (uint32_t first = 0; first < tokens.size(); first += batch) {
    const uint32_t rows = std::min<uint32_t>(batch, uint32_t(tokens.size()) - first);
    device_->write(*room.buffer, room.offset, std::as_bytes(tokens.subspan(first, rows)));
    if (model_) set_slot({.position = first, .stopped = Stopped::running});
    device_->submit(prefill_recording(rows, Decoder::Want::states));
    const gpu::View states = encoder_ ? encoder_->states(rows) : model_->states_of_rows(rows);
    append_floats(all, device_->read(*states.buffer, states.offset, states.bytes()));
  }
  return all;
}

std::vector<float> Engine::embed(std::span<const uint32_t> tokens) {
  const std::vector<float> rows = states(tokens);
  std::vector<double> sum(config().dim);
  const bool mean = config().pooling == Pooling::mean;
  const size_t first = config().pooling == Pooling::last ? tokens.size() - 1 : 0,
               count = mean ? tokens.size() : 1;
  for (size_t r = first; r < first + count; ++r)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += rows[r * sum.size() + i];
  double squares = 0;
  for (double x : sum) squares += x * x;
  if (!std::isfinite(squares)) fail("the model's states are not finite: its weights are broken");
  std::vector<float> embedding(sum.size());
  for (size_t i = 0; i < sum.size(); ++i)
    embedding[i] = squares > 0 ? float(sum[i] / std::sqrt(squares)) : 0;
  return embedding;
}

}  // namespace ms
