// text_rust.h: the C interface of the Rust crate in text/rust: tokenizers, chat templates and
// grammars.
//
// Written by hand rather than by cbindgen: seventeen functions do not pay for one more tool that
// every build needs, and text/'s tests call them all. `struct`s mirror #[repr(C)] ones in
// rust/src/lib.rs, field by field. Where a function says that it failed, the buffer holds a message
// (UTF-8). Objects may be used by several threads.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Bytes that somebody else owns.
typedef struct {
  const uint8_t* data;
  size_t size;
} MsTextBytes;

// Bytes that the receiver gives back with ms_text_free.
typedef struct {
  uint8_t* data;
  size_t size;
} MsTextBuffer;

// A vocabulary, as the metadata of a GGUF file have it: of model gpt2, llama or bert.
typedef struct {
  MsTextBytes model;          // tokenizer.ggml.model
  MsTextBytes pre;            // tokenizer.ggml.pre (for gpt2)
  const MsTextBytes* tokens;  // [n_tokens]
  const int32_t* kinds;       // [n_tokens] tokenizer.ggml.token_type
  const uint8_t* strips;      // [n_tokens] whether white space after the special token is dropped
  size_t n_tokens;
  const float* scores;  // [n_scores] (for llama: n_tokens of them)
  size_t n_scores;
  const MsTextBytes* merges;  // [n_merges] "left right" (for gpt2)
  size_t n_merges;
  int64_t unknown;    // the id of the unknown token, or -1
  bool space_prefix;  // llama: every stretch of plain text gets a space in front
} MsTextVocabulary;

typedef struct {
  const MsTextBytes* pieces;  // [n_tokens] the bytes that each token stands for
  size_t n_tokens;
  // Of a parsed one, else null:
  const MsTextBytes* tokens;  // [n_tokens] their names; empty for a number without a token
  const int32_t* kinds;       // [n_tokens]
  const uint32_t* start;      // [n_start] the tokens that it puts in front of a text
  size_t n_start;
  const uint32_t* end;  // [n_end] and behind it
  size_t n_end;
  // Whether the first token of a text begins with a space that is not its own, and the first one
  // after each special token.
  bool strips_first;
  bool strips_each;
  bool usually_bos;  // whether texts begin with bos where the file does not say
} MsTextProperties;

typedef struct MsTextTokenizer MsTextTokenizer;
typedef struct MsTextTemplate MsTextTemplate;
typedef struct MsTextGrammarVocabulary MsTextGrammarVocabulary;
typedef struct MsTextGrammar MsTextGrammar;

// Null after a failure. The vocabulary is not needed any more afterwards.
MsTextTokenizer* ms_text_tokenizer_new(const MsTextVocabulary* vocabulary, MsTextBuffer* error);
// From the text of tokenizer.json; as before.
MsTextTokenizer* ms_text_tokenizer_parse(MsTextBytes json, MsTextBuffer* error);
void ms_text_tokenizer_free(MsTextTokenizer* tokenizer);
// As long as the tokenizer lives.
const MsTextProperties* ms_text_tokenizer_properties(const MsTextTokenizer* tokenizer);
// Of a parsed one, before threads share it: text must not form these tokens. False after a failure.
bool ms_text_tokenizer_set_control(MsTextTokenizer* tokenizer, const uint32_t* ids, size_t n_ids,
                                   MsTextBuffer* error);
// `out`: the ids, as uint32_t. Bytes of `text` that are not UTF-8 count as U+FFFD.
bool ms_text_tokenizer_encode(const MsTextTokenizer* tokenizer, MsTextBytes text,
                              bool parse_special, MsTextBuffer* out);

// Null after a failure.
MsTextTemplate* ms_text_template_new(MsTextBytes source, MsTextBuffer* error);
void ms_text_template_free(MsTextTemplate* chat_template);
// `variables`: a JSON object. `out`: the text.
bool ms_text_template_render(const MsTextTemplate* chat_template, MsTextBytes variables,
                             MsTextBuffer* out);

// Null after a failure. `pieces`: [n_tokens] the bytes of each token, none of those that no text
// has.
MsTextGrammarVocabulary* ms_text_grammar_vocabulary_new(const MsTextBytes* pieces, size_t n_tokens,
                                                        MsTextBuffer* error);
void ms_text_grammar_vocabulary_free(MsTextGrammarVocabulary* vocabulary);
// A position in a grammar, at first its beginning. Null after a failure. `kind`: ms::Grammar::Kind.
// `schemas`: [n_schemas] what a Lark grammar names schema_0, schema_1, …
// One thread at a time may use it, but copies by several.
MsTextGrammar* ms_text_grammar_new(const MsTextGrammarVocabulary* vocabulary, uint32_t kind,
                                   MsTextBytes text, const MsTextBytes* schemas, size_t n_schemas,
                                   MsTextBuffer* error);
MsTextGrammar* ms_text_grammar_copy(const MsTextGrammar* grammar, MsTextBuffer* error);
void ms_text_grammar_free(MsTextGrammar* grammar);
// Sets the bits of the tokens that may follow, and clears the others: [n_words] of 32 tokens each.
bool ms_text_grammar_mask(MsTextGrammar* grammar, uint32_t* mask, size_t n_words, bool* may_end,
                          bool* must_end, MsTextBuffer* error);
bool ms_text_grammar_commit(MsTextGrammar* grammar, uint32_t token, bool* must_end,
                            MsTextBuffer* error);
// `fits`: false, where the grammar does not go on by this text, and stands where it did.
bool ms_text_grammar_commit_text(MsTextGrammar* grammar, MsTextBytes text, bool* fits,
                                 MsTextBuffer* error);

void ms_text_free(MsTextBuffer buffer);

#ifdef __cplusplus
}
#endif
