//! A tokenizer made from the vocabulary of a GGUF file.
use crate::byte_level::{alphabet, ByteLevel};
use crate::sentencepiece::SentencePiece;
use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};
use std::str::from_utf8;

// The values of tokenizer.ggml.token_type; unused tokens (5) never come from text.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// What a GGUF file says. `kinds`, `strips` and, for "llama", `scores` have one entry per token.
pub struct Vocabulary<'a> {
    pub model: &'a str, // "gpt2": byte-level BPE; "llama": SentencePiece
    pub pre: &'a str,   // gpt2: the name of the split
    pub tokens: Vec<&'a [u8]>,
    pub kinds: &'a [i32],
    pub strips: &'a [u8], // not 0: white space that follows this special token is dropped
    pub scores: &'a [f32],
    pub merges: Vec<&'a [u8]>, // gpt2: "left right"
    pub unknown: Option<u32>,
    pub space_prefix: bool, // llama: every stretch of plain text gets a space in front
}

enum Model {
    ByteLevel(Box<ByteLevel>),
    SentencePiece { model: SentencePiece, prefix: &'static str },
}

/// The bytes of each token.
type Pieces = Vec<Box<[u8]>>;

/// Tokens that are found in text as they stand, before anything else: of those that begin first, the longest.
struct Literals {
    finder: AhoCorasick,
    ids: Vec<u32>,
}

pub struct Tokenizer {
    model: Model,
    user_defined: Literals,
    special: Literals, // user-defined, control and unknown tokens
    strips: Vec<bool>,
    pieces: Pieces,
}

impl Tokenizer {
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, String> {
        let tokens = texts(&vocabulary.tokens)?;
        let (model, pieces) = match vocabulary.model {
            "gpt2" => byte_level(vocabulary, &tokens)?,
            "llama" => sentencepiece(vocabulary, &tokens)?,
            other => {
                return Err(format!(
                    "tokenizers of model \"{other}\" are not supported, only \"gpt2\", \"llama\" and \"bert\""
                ))
            }
        };
        Ok(Self {
            model,
            user_defined: Literals::new(vocabulary, &tokens, &[USER_DEFINED])?,
            special: Literals::new(vocabulary, &tokens, &[USER_DEFINED, CONTROL, UNKNOWN])?,
            strips: vocabulary.strips.iter().map(|&strip| strip != 0).collect(),
            pieces,
        })
    }

    /// The bytes that each token stands for.
    pub fn pieces(&self) -> &[Box<[u8]>] {
        &self.pieces
    }

    /// Whether decoding takes a space away in front of a stretch of plain text.
    pub fn space_prefix(&self) -> bool {
        matches!(&self.model, Model::SentencePiece { prefix, .. } if !prefix.is_empty())
    }

    /// Whether texts begin with bos where the file does not say.
    pub fn usually_bos(&self) -> bool {
        match &self.model {
            Model::ByteLevel(model) => model.usually_bos,
            Model::SentencePiece { .. } => true,
        }
    }

    /// The tokens of `text`. Control and unknown tokens in it are only recognised with `parse_special`.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, String> {
        let literals = if parse_special { &self.special } else { &self.user_defined };
        let mut out = Vec::new();
        let mut done = 0;
        for found in literals.finder.find_iter(text) {
            if found.start() < done {
                continue; // white space that was dropped
            }
            let id = literals.ids[found.pattern().as_usize()];
            self.encode_plain(&text[done..found.start()], &mut out)?;
            out.push(id);
            done = found.end();
            if self.strips[id as usize] {
                done = text.len() - text[done..].trim_start().len();
            }
        }
        self.encode_plain(&text[done..], &mut out)?;
        Ok(out)
    }

    fn encode_plain(&self, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        match &self.model {
            _ if text.is_empty() => Ok(()),
            Model::ByteLevel(model) => model.encode(text, out),
            Model::SentencePiece { model, prefix } => {
                model.encode(&format!("{prefix}{}", text.replace(' ', "▁")), out)
            }
        }
    }
}

impl Literals {
    fn new(vocabulary: &Vocabulary, tokens: &[&str], kinds: &[i32]) -> Result<Self, String> {
        let ids: Vec<u32> = (0u32..)
            .zip(tokens)
            .filter(|&(id, text)| !text.is_empty() && kinds.contains(&vocabulary.kinds[id as usize]))
            .map(|(id, _)| id)
            .collect();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(ids.iter().map(|&id| tokens[id as usize]))
            .map_err(|error| error.to_string())?;
        Ok(Self { finder, ids })
    }
}

/// The tokens as text, each different from the others (but for empty ones, which stand for nothing).
pub fn texts<'a>(tokens: &[&'a [u8]]) -> Result<Vec<&'a str>, String> {
    let mut first = AHashMap::with_capacity(tokens.len());
    let mut out = Vec::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let text = from_utf8(token).map_err(|error| format!("token {id} is not UTF-8: {error}"))?;
        if let Some(other) = first.insert(text, id).filter(|_| !text.is_empty()) {
            return Err(format!("tokens {other} and {id} are the same: {text:?}"));
        }
        out.push(text);
    }
    Ok(out)
}

/// The tokens that merges may form. A control token is never among them: plain text must not turn into one.
fn spellable<'a>(vocabulary: &'a Vocabulary, tokens: &'a [&str]) -> impl Iterator<Item = (u32, &'a str)> {
    let kinds = vocabulary.kinds.iter();
    let all = (0u32..).zip(tokens).zip(kinds);
    all.filter(|(_, kind)| matches!(**kind, NORMAL | USER_DEFINED)).map(|((id, text), _)| (id, *text))
}

fn byte_level(vocabulary: &Vocabulary, tokens: &[&str]) -> Result<(Model, Pieces), String> {
    let ids: AHashMap<String, u32> =
        spellable(vocabulary, tokens).map(|(id, text)| (text.to_string(), id)).collect();
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for (rank, merge) in vocabulary.merges.iter().enumerate() {
        let text = from_utf8(merge).map_err(|error| format!("merge {rank} is not UTF-8: {error}"))?;
        let (left, right) = text
            .split_once(' ')
            .filter(|(left, right)| !left.is_empty() && !right.is_empty() && !right.contains(' '))
            .ok_or_else(|| format!("merge {rank} is {text:?}, not two tokens with a space between"))?;
        for part in [left, right, &format!("{left}{right}")] {
            if !ids.contains_key(part) {
                return Err(format!("merge {rank} is {text:?}, but no token that text may form is {part:?}"));
            }
        }
        merges.push((left.to_string(), right.to_string()));
    }

    let mut byte_of = AHashMap::new();
    byte_of.extend(alphabet().into_iter().zip(0u8..=255));
    let pieces = tokens.iter().zip(vocabulary.kinds).map(|(text, kind)| {
        let bytes = text.chars().map(|char| byte_of.get(&char).copied()).collect::<Option<Box<[u8]>>>();
        bytes.filter(|_| *kind == NORMAL).unwrap_or_else(|| text.as_bytes().into())
    });
    let pieces = pieces.collect();
    let model = ByteLevel::new(vocabulary.pre, ids, merges)?;
    Ok((Model::ByteLevel(Box::new(model)), pieces))
}

fn sentencepiece(vocabulary: &Vocabulary, tokens: &[&str]) -> Result<(Model, Pieces), String> {
    let mut pieces = Vec::with_capacity(tokens.len());
    let mut bytes = Box::new([None; 256]);
    for (id, text) in (0u32..).zip(tokens) {
        let mut piece: Box<[u8]> = text.replace('▁', " ").as_bytes().into();
        if vocabulary.kinds[id as usize] == BYTE {
            let byte = hexadecimal(text)
                .ok_or_else(|| format!("token {id} is a byte, but its text is {text:?}, not like <0x0A>"))?;
            bytes[byte as usize] = Some(id);
            piece = [byte].into();
        }
        pieces.push(piece);
    }
    if vocabulary.unknown.is_none() {
        if let Some(byte) = bytes.iter().position(Option::is_none) {
            return Err(format!("there is neither a token for the byte 0x{byte:02X} nor an unknown token"));
        }
    }
    let mut scored = AHashMap::with_capacity(tokens.len());
    for (id, text) in spellable(vocabulary, tokens) {
        let score = vocabulary.scores[id as usize];
        if !score.is_finite() {
            return Err(format!("the score of token {id} ({text:?}) is {score}"));
        }
        scored.insert(text.into(), (id, score));
    }
    let prefix = if vocabulary.space_prefix { "▁" } else { "" };
    let model = SentencePiece::new(scored, bytes, vocabulary.unknown);
    Ok((Model::SentencePiece { model, prefix }, pieces))
}

/// 10 for "<0x0A>".
pub fn hexadecimal(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| two)
}
