// perplexity.cpp: mainspring perplexity: how well a model expects a text, and how far its
// probabilities are from those of another run.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "apps/bench_model.hpp"
#include "apps/model_options.hpp"
#include "base/thread_pool.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(The text is cut into pieces of -c tokens, each of which begins with the model's beginning-of-text token,
if it has one; the tokens of a piece's second half count. So it is in llama.cpp. With --whole the text
is one piece, and every token but the first counts.

With --kl-base FILE the log-probabilities of every counted position are kept there, as f32: 4 bytes times
the vocabulary for each; a file that is there already is written over only if it is one of these. With
--kl, too, they are read, and this run is compared with them; the text and its pieces are then the file's.

Random weights (--synthetic) read random tokens, pieces of -c of them: to compare ways to compute at a size
of which there is no file.

Examples:
  mainspring perplexity -m model.gguf -f text.txt
  mainspring perplexity -m model.gguf -f text.txt --whole -ctk f32 -ctv f32
  mainspring perplexity -m model-f16.gguf -f text.txt --kl-base base.kl
  mainspring perplexity -m model-q4_0.gguf --kl-base base.kl --kl
  mainspring perplexity --synthetic llama-1b:q4_0 -c 64 --activations f32 -ctk f32 --kl-base base.kl)";

struct Arguments {
  ModelArguments model;
  std::string file, synthetic, kl_base;
  bool whole = false, kl = false;
  uint32_t context = 512;
  uint32_t chunks = 0;
};

// A sum of values with what their standard error takes.
struct Mean {
  uint64_t count = 0;
  double sum = 0, squares = 0;

  void add(double x) { ++count, sum += x, squares += x * x; }
  double value() const { return sum / double(count); }
  double error() const {
    if (count < 2) return 0;
    const double variance = (squares - sum * sum / double(count)) / double(count - 1);
    return std::sqrt(std::max(0.0, variance) / double(count));
  }
};

// What a file of --kl-base holds in front of its log-probabilities, one row for each counted
// position, [rows, vocab] f32.
struct Header {
  char magic[8] = {'m', 's', '-', 'k', 'l', '-', '1', '\n'};
  uint32_t vocab = 0;
  uint32_t piece = 0;   // tokens of a piece
  uint32_t first = 0;   // position of a piece's first counted row
  uint32_t pieces = 0;  // each of `piece` tokens u32
};

struct Text {
  Header header;
  std::vector<uint32_t> tokens;  // [pieces, piece]

  std::span<const uint32_t> piece(uint32_t i) const {
    return std::span(tokens).subspan(size_t(i) * header.piece, header.piece);
  }
  // The last position of a piece is followed by nothing.
  uint32_t rows() const { return header.piece - 1 - header.first; }
};

Text cut(const Tokenizer& tokenizer, const Arguments& a) {
  Text text;
  Header& h = text.header;
  const std::vector<uint32_t> tokens = tokenizer.encode(read_text(a.file), {});
  h.piece = a.whole ? uint32_t(tokens.size()) : a.context;
  h.first = a.whole ? 0 : h.piece / 2;
  h.pieces = h.piece ? uint32_t(tokens.size() / h.piece) : 0;
  if (a.chunks) h.pieces = std::min(h.pieces, a.chunks);
  if (h.piece < 2 || h.pieces == 0)
    fail("{} has {} tokens; {} at least are needed (-c, or --whole)", a.file, tokens.size(),
         std::max(2u, h.piece));
  text.tokens.assign(tokens.begin(), tokens.begin() + std::ptrdiff_t(h.pieces) * h.piece);
  const std::vector<uint32_t> frame = tokenizer.encode("", {});
  if (tokenizer.bos() && !frame.empty() && frame.front() == *tokenizer.bos())
    for (uint32_t i = 0; i < h.pieces; ++i) text.tokens[size_t(i) * h.piece] = *tokenizer.bos();
  return text;
}

// For random weights, the same in each run.
Text random_text(uint32_t vocab, const Arguments& a) {
  Text text;
  Header& h = text.header;
  h.piece = a.context;
  h.first = a.whole ? 0 : h.piece / 2;
  h.pieces = std::max(1u, a.chunks);
  std::mt19937 rng(1);
  text.tokens.resize(size_t(h.pieces) * h.piece);
  for (uint32_t& token : text.tokens) token = uint32_t(rng() % vocab);
  return text;
}

// Log-probabilities of a row of logits, in place.
void to_log_probabilities(std::span<float> row) {
  const double top = *std::ranges::max_element(row);
  double sum = 0;
  for (float x : row) sum += std::exp(x - top);
  const double subtract = top + std::log(sum);
  for (float& x : row) x = float(x - subtract);
}

struct Compared {
  double kl = 0;          // of this run from the base, nats
  double difference = 0;  // of the probability of the text's token
  double base_total = 0;  // of the base's probabilities
  double base_loss = 0;   // of the text's token, nats
  bool same_top = false;
};

Compared compare(std::span<const float> base, std::span<const float> row, uint32_t token) {
  Compared c;
  for (size_t i = 0; i < row.size(); ++i) {
    const double p = std::exp(double(base[i]));
    c.base_total += p;
    if (base[i] > -1e4f) c.kl += p * (double(base[i]) - row[i]);
  }
  c.difference = std::exp(double(row[token])) - std::exp(double(base[token]));
  c.base_loss = -base[token];
  const auto top = [](std::span<const float> r) { return std::ranges::max_element(r) - r.begin(); };
  c.same_top = top(base) == top(row);
  return c;
}

// The file of --kl-base: written row after row, or read so.
class Base {
 public:
  void create(const std::string& path, const Text& text) {
    path_ = path;
    file_.open(path, std::ios::out | std::ios::binary | std::ios::trunc);
    write(&text.header, sizeof(Header));
    write(text.tokens.data(), text.tokens.size() * 4);
  }

  Text open(const std::string& path) {
    path_ = path;
    file_.open(path, std::ios::in | std::ios::binary);
    if (!file_) fail("cannot read {}: {}", path, std::strerror(errno));
    Text text;
    Header& h = text.header;
    file_.read(reinterpret_cast<char*>(&h), sizeof(h));
    if (!file_ || std::memcmp(h.magic, Header{}.magic, sizeof(h.magic)) != 0)
      fail("{} is not a file of --kl-base", path);
    const uint64_t size = std::filesystem::file_size(path);
    const uint64_t tokens = uint64_t(h.pieces) * h.piece;
    const bool sane =
        h.vocab && h.piece >= 2 && h.first < h.piece - 1 && h.pieces && tokens < size / 4;
    if (!sane || size != sizeof(h) + 4 * (tokens + uint64_t(h.pieces) * text.rows() * h.vocab))
      fail("{}: {} bytes are not what its header ({} pieces of {} tokens, vocabulary {}) says",
           path, size, h.pieces, h.piece, h.vocab);
    text.tokens.resize(tokens);
    read(text.tokens.data(), tokens * 4);
    for (size_t i = 0; i < tokens; ++i)
      if (text.tokens[i] >= h.vocab)
        fail("{}: token {} of piece {} is {}; the vocabulary has {}", path, i % h.piece,
             i / h.piece, text.tokens[i], h.vocab);
    return text;
  }

  void write(const void* data, size_t bytes) {
    file_.write(static_cast<const char*>(data), std::streamsize(bytes));
    if (!file_) fail("cannot write {}: {}", path_, std::strerror(errno));
  }
  void read(void* data, size_t bytes) {
    file_.read(static_cast<char*>(data), std::streamsize(bytes));
    if (!file_) fail("{} ends too early", path_);
  }
  void close() {
    file_.close();
    if (!file_) fail("cannot write {}: {}", path_, std::strerror(errno));
  }

 private:
  std::string path_;
  std::fstream file_;
};

// Throws unless the file to write is none yet, or nothing, or one that --kl-base wrote before.
void check_overwriting(const std::string& path, const std::filesystem::path& model,
                       const std::string& file) {
  std::error_code none;
  for (const std::filesystem::path& input : {model, std::filesystem::path(file)})
    require(!std::filesystem::equivalent(path, input, none),
            "--kl-base {} is what is read, too: name another file", path);
  std::ifstream in(path, std::ios::binary);
  char magic[sizeof(Header::magic)] = {};
  if (in.read(magic, sizeof(magic)); in.gcount() == 0) return;
  if (std::memcmp(magic, Header{}.magic, sizeof(magic)) != 0)
    fail("{} is there, and not a file of --kl-base: it is left as it is", path);
}

void print_kl(std::vector<double> kl, const Mean& base_loss, const Mean& difference_squares,
              const Mean& same_top) {
  Mean mean;
  for (double x : kl) mean.add(x);
  std::ranges::sort(kl);
  const auto quantile = [&](double q) { return kl[size_t(q * double(kl.size() - 1))]; };
  fmt::print("base: PPL = {:.4f} +/- {:.4f}\n", std::exp(base_loss.value()),
             std::exp(base_loss.value()) * base_loss.error());
  fmt::print("KL divergence: mean {:.3e} +/- {:.1e}, median {:.3e}, 99 % {:.3e}, maximum {:.3e}\n",
             mean.value(), mean.error(), quantile(0.5), quantile(0.99), kl.back());
  fmt::print("same top token: {:.3f} +/- {:.3f} %\n", 100 * same_top.value(),
             100 * same_top.error());
  fmt::print("RMS of the change of a token's probability: {:.4f} %\n",
             100 * std::sqrt(difference_squares.value()));
}

void perplexity(const GlobalOptions& options, const Arguments& a) {
  require(!a.kl || !a.kl_base.empty(), "--kl compares with a file: name it with --kl-base");
  require(!a.kl || a.file.empty(), "--kl takes its text from the file of --kl-base, not -f");
  require(a.synthetic.empty() || a.file.empty(),
          "--synthetic has no words for the text of -f: it reads random tokens");
  require(a.kl || !a.file.empty() || !a.synthetic.empty(), "no text: give one with -f");
  require(a.context >= 4 || a.whole, "-c {}: a piece has 4 tokens or more", a.context);
  std::error_code none;
  if (std::filesystem::exists(a.kl_base, none) && !std::filesystem::is_regular_file(a.kl_base))
    fail("--kl-base {}: is not a regular file", a.kl_base);  // a pipe would be waited for
  const bool synthetic = !a.synthetic.empty();
  const std::filesystem::path model = synthetic ? "" : model_path(a.model.model, a.model.hub_model);
  if (!a.kl && !a.kl_base.empty()) check_overwriting(a.kl_base, model, a.file);
  if (!synthetic) require_decoder(model);
  Base base;
  // The text comes first: its length is the context's.
  Text text = a.kl        ? base.open(a.kl_base)
              : synthetic ? random_text(synthetic_shape(a.synthetic).vocab, a)
                          : cut(Tokenizer::from_file(open_model(model)), a);
  ModelInfo info;
  const auto loaded = with_context_of(
      a.kl      ? "--kl-base"
      : a.whole ? "-c instead of --whole"
                : "-c",
      [&] { return load_bench_model(options, a.model, a.synthetic, text.header.piece, 1, info); });
  Engine& engine = *loaded;
  const uint32_t vocab = engine.model().config().vocab;
  if (a.kl && vocab != text.header.vocab)
    fail("{} is of a vocabulary of {} tokens, the model has {}", a.kl_base, text.header.vocab,
         vocab);
  text.header.vocab = vocab;
  if (!a.kl && !a.kl_base.empty()) base.create(a.kl_base, text);

  ThreadPool pool;
  Progress progress("pieces");
  Mean loss, base_loss, squares, same_top;
  std::vector<double> kl;
  for (uint32_t i = 0; i < text.header.pieces; ++i) {
    const auto piece = text.piece(i);
    engine.each_logits(
        piece.first(piece.size() - 1), text.header.first, engine.model().options().batch,
        [&](uint32_t first, std::span<const float> logits) {
          const size_t rows = logits.size() / vocab;
          std::vector<float> all(logits.begin(), logits.end()), other(a.kl ? all.size() : 0);
          const auto row = [&](std::vector<float>& of, size_t r) {
            return std::span(of).subspan(r * vocab, vocab);
          };
          if (a.kl) base.read(other.data(), other.size() * 4);
          std::vector<Compared> compared(rows);
          pool.parallel_for(rows, [&](size_t r) {
            to_log_probabilities(row(all, r));
            if (a.kl) compared[r] = compare(row(other, r), row(all, r), piece[first + r + 1]);
          });
          for (size_t r = 0; r < rows; ++r) {
            loss.add(-row(all, r)[piece[first + r + 1]]);
            if (!a.kl) continue;
            if (!(std::abs(compared[r].base_total - 1) < 1e-3))
              fail("{}: row {} is damaged: its probabilities come to {}", a.kl_base, kl.size(),
                   compared[r].base_total);
            kl.push_back(compared[r].kl);
            base_loss.add(compared[r].base_loss);
            squares.add(compared[r].difference * compared[r].difference);
            same_top.add(compared[r].same_top);
          }
          if (!a.kl && !a.kl_base.empty()) base.write(all.data(), all.size() * 4);
        });
    progress(i + 1, text.header.pieces);
  }
  if (!a.kl && !a.kl_base.empty()) base.close();
  progress.clear();
  if (!std::isfinite(loss.sum)) fail("the model's logits are not finite: its weights are broken");
  fmt::print("{} piece{} of {} tokens, {} of them counted: {:.8f} nats per token\n",
             text.header.pieces, text.header.pieces == 1 ? "" : "s", text.header.piece, loss.count,
             loss.value());
  const double ppl = std::exp(loss.value());
  fmt::print("PPL = {:.4f} +/- {:.4f}\n", ppl, ppl * loss.error());
  if (a.kl) print_kl(std::move(kl), base_loss, squares, same_top);
}

}  // namespace

void add_perplexity(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command =
      *app.add_subcommand("perplexity", "Measures how well a model expects a text.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  command.add_option("-f,--file", a->file, "The text")->type_name("FILE")->check(CLI::ExistingFile);
  add_synthetic_option(command, a->synthetic);
  const std::vector<CLI::Option*> of_pieces = {
      add_number(command, "-c,--ctx-size", a->context, "Tokens of a piece"),
      add_number(command, "--chunks", a->chunks, "Most pieces; 0: the whole text"),
      add_flag(command, "--whole", a->whole,
               "The text as one piece, all tokens but the first counted")};
  CLI::Option* const base =
      command.add_option("--kl-base", a->kl_base, "Log-probabilities: written, or with --kl read")
          ->type_name("FILE");
  add_flag(command, "--kl", a->kl, "Compare with --kl-base: KL divergence and top tokens");
  command.callback([=, &options] {
    require(!base->count() || !a->kl_base.empty(), "--kl-base names no file");
    for (const CLI::Option* option : of_pieces)
      require(!a->kl || !is_given(*option),
              "--kl takes no {}: its pieces are those of the file of --kl-base",
              option->get_name(false, true));
    perplexity(options, *a);
  });
}

}  // namespace ms
