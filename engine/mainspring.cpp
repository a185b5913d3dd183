// mainspring.cpp: the library's public functions, over Engine.
#include "mainspring.hpp"

#include "engine/engine.hpp"

namespace ms {

std::string_view version() { return MS_VERSION; }

Model Model::load(const LoadOptions& options) {
  return Model(std::make_unique<Engine>(EngineOptions{
      .model = options.model,
      .device = {.device = options.device, .cache = options.cache},
      .options = {.context = options.context, .kv_type = kv_type_by_name(options.kv_type)},
      .progress = options.progress}));
}

Model::Model(std::unique_ptr<Engine> engine) : engine_(std::move(engine)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Generation Model::generate(std::string_view prompt, const Request& request, const OnText& on_text) {
  return engine_->generate(engine_->encode(prompt), request, on_text);
}

Generation Model::chat(const std::vector<Message>& messages, const Request& request,
                       const OnText& on_text) {
  ChatTemplate::Json json = ChatTemplate::Json::array();
  for (const Message& message : messages)
    json.push_back({{"role", message.role}, {"content", message.content}});
  return engine_->generate(engine_->encode_chat(json), request, on_text);
}

bool Model::has_chat_template() const { return engine_->chat_template() != nullptr; }

std::vector<uint32_t> Model::tokenize(std::string_view text) const { return engine_->encode(text); }

std::string Model::detokenize(std::span<const uint32_t> tokens) const {
  return engine_->tokenizer().decode(tokens, true);
}

uint32_t Model::context() const { return engine_->context(); }
uint32_t Model::vocabulary() const { return engine_->config().vocab; }

}  // namespace ms
