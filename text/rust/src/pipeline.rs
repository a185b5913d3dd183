//! A tokenizer as tokenizer.json describes it, run by the crate that wrote it; and WordPiece, which is made of
//! the same parts.
//!
//! The file may come from anywhere, and holds regular expressions: it is read, and text is encoded, within
//! limits.
use crate::byte_level::alphabet;
use crate::limits::{run, Limits, Stopped};
use crate::tokenizer::hexadecimal;
use ahash::AHashMap;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;
use tokenizers::decoders;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    AddedToken, AddedVocabulary, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizer, PreTokenizerWrapper, Token, Tokenizer,
};

// As in GGUF's tokenizer.ggml.token_type.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Where the crate's regular expressions meet their limit of a million saved states, it goes on as if the text
/// ended; below this they don't.
const LONGEST_TEXT: usize = 900_000;
const STACK: usize = 32 << 20; // JSON may nest, and does so at most 128 levels

/// What decoding does to the space in front of a text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Prefix {
    None,
    First, // the first token of a text loses it
    Each,  // and the first one after each special token
}

pub struct Pipeline {
    parts: Arc<Parts>,
    stopped: AtomicBool, // at its limits: a thread sleeps somewhere in it
}

struct Parts {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    model: ModelWrapper,
    special: AddedVocabulary, // finds all added tokens in text
    plain: AddedVocabulary,   // all but control tokens
    tokens: Vec<String>,
    kinds: Vec<i32>,
    pieces: Vec<Box<[u8]>>,
    start: Vec<u32>, // the tokens in front of a text, and behind it
    end: Vec<u32>,
    prefix: Prefix,
}

impl Pipeline {
    /// From the text of tokenizer.json.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let limits =
            Limits { memory: (256 << 20) + 64 * json.len(), time: Duration::from_secs(120), stack: STACK };
        let json = json.to_vec();
        let job = move || {
            let tokenizer = Tokenizer::from_bytes(&json).map_err(|error| error.to_string())?;
            check_numbers(&tokenizer, &json)?;
            Parts::of(tokenizer)
        };
        let parts = run(limits, job).unwrap_or_else(|stopped| Err(stopped.to_string()))?;
        Ok(Self { parts: Arc::new(parts), stopped: AtomicBool::new(false) })
    }

    /// BERT's WordPiece, in lower case. Tokens that begin a word have U+2581 in front, as in GGUF files.
    pub fn word_pieces(tokens: &[&str], kinds: &[i32], unknown: Option<u32>) -> Result<Self, String> {
        let own = tokens.iter().map(|token| match token.strip_prefix('▁') {
            Some(word) => word.to_string(),
            None if token.starts_with('[') && token.ends_with(']') => token.to_string(),
            None => format!("##{token}"),
        });
        let own: Vec<String> = own.collect();
        let vocabulary: AHashMap<String, u32> = own.iter().cloned().zip(0..).collect();
        if vocabulary.len() != own.len() {
            return Err("two tokens are the same".into());
        }
        let unknown = unknown.and_then(|id| own.get(id as usize)).ok_or("there is no unknown token")?;
        let model = WordPiece::builder().vocab(vocabulary).unk_token(unknown.clone()).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|error| error.to_string())?);
        tokenizer
            .with_normalizer(Some(BertNormalizer::default()))
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_decoder(Some(decoders::wordpiece::WordPiece::default()));
        for (token, &kind) in own.iter().zip(kinds) {
            if matches!(kind, CONTROL | UNKNOWN | USER_DEFINED) {
                let special = kind != USER_DEFINED;
                let added = AddedToken::from(token.clone(), special).normalized(!special);
                match special {
                    true => tokenizer.add_special_tokens(&[added]),
                    false => tokenizer.add_tokens(&[added]),
                };
            }
        }
        Ok(Self { parts: Arc::new(Parts::of(tokenizer)?), stopped: AtomicBool::new(false) })
    }

    pub fn tokens(&self) -> &[String] {
        &self.parts.tokens
    }

    pub fn kinds(&self) -> &[i32] {
        &self.parts.kinds
    }

    pub fn pieces(&self) -> &[Box<[u8]>] {
        &self.parts.pieces
    }

    pub fn start(&self) -> &[u32] {
        &self.parts.start
    }

    pub fn end(&self) -> &[u32] {
        &self.parts.end
    }

    pub fn prefix(&self) -> Prefix {
        self.parts.prefix
    }

    /// Makes control tokens of these, which text must not form. Where they are asked for, they are found as they
    /// stand: old files would have them normalised, and then find no "</s>" but behind a space.
    pub fn set_control(&mut self, ids: &[u32]) -> Result<(), String> {
        let parts = Arc::get_mut(&mut self.parts).ok_or("the tokenizer is in use")?;
        let mut added: BTreeMap<u32, AddedToken> =
            parts.special.get_added_tokens_decoder().iter().map(|(id, token)| (*id, token.clone())).collect();
        for &id in ids {
            let name = &parts.tokens[id as usize];
            let token = added.entry(id).or_insert_with(|| AddedToken::from(name.clone(), true));
            (token.special, token.normalized) = (true, false);
            parts.kinds[id as usize] = CONTROL;
        }
        let tokens: Vec<AddedToken> = added.values().cloned().collect();
        parts.special = AddedVocabulary::new();
        parts.special.add_tokens(&tokens, &parts.model, parts.normalizer.as_ref());
        for (id, token) in added {
            if parts.special.token_to_id(&token.content, &parts.model) != Some(id) {
                return Err(format!("the added token {:?} has not the number {id}", token.content));
            }
        }
        parts.plain = parts.special.clone();
        parts.plain.set_encode_special_tokens(true);
        Ok(())
    }

    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, String> {
        if text.len() > LONGEST_TEXT {
            return Err(format!("tokenizer.json's expressions take texts of at most {LONGEST_TEXT} bytes"));
        }
        if self.stopped.load(Relaxed) {
            return Err("the tokenizer went beyond its limits before, and does not run again".into());
        }
        let limits = Limits {
            memory: (64 << 20) + 4096 * text.len(),
            time: Duration::from_millis(3000 + text.len() as u64 / 50),
            stack: STACK,
        };
        let (parts, text) = (self.parts.clone(), text.to_string());
        run(limits, move || parts.encode(&text, parse_special)).unwrap_or_else(|stopped| {
            self.stopped.store(matches!(stopped, Stopped::Memory(_) | Stopped::Time(_)), Relaxed);
            Err(stopped.to_string())
        })
    }
}

impl Parts {
    fn of(mut tokenizer: Tokenizer) -> Result<Self, String> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        let json = |part: serde_json::Result<Value>| part.map_err(|error| error.to_string());
        let decoder = Decoder::of(&json(serde_json::to_value(tokenizer.get_decoder()))?)?;
        let normalizer = json(serde_json::to_value(tokenizer.get_normalizer()))?;
        let pre_tokenizer = json(serde_json::to_value(tokenizer.get_pre_tokenizer()))?;
        let spaced = puts_spaces(&normalizer, &pre_tokenizer);

        let added = tokenizer.get_added_tokens_decoder();
        let vocabulary = tokenizer.get_vocab(true);
        let count = vocabulary.values().max().map_or(0, |&last| last as usize + 1);
        if count > 2 * vocabulary.len() + (1 << 16) {
            return Err(format!("a token has the number {}, but there are {}", count - 1, vocabulary.len()));
        }
        let (mut tokens, mut kinds) = (vec![String::new(); count], vec![UNUSED; count]);
        for (token, id) in vocabulary {
            let id = id as usize;
            kinds[id] = match added.get(&(id as u32)) {
                Some(added) if added.special => CONTROL,
                Some(_) => USER_DEFINED,
                None if decoder.byte_of(&token).is_some() => BYTE,
                None => NORMAL,
            };
            tokens[id] = token;
        }
        let pieces = tokens.iter().zip(&kinds).map(|(token, kind)| decoder.piece(token, *kind)).collect();

        // What surrounds any text, by way of an example.
        let example = tokenizer.encode_fast("a", true).map_err(|error| error.to_string())?;
        let is_added: Vec<bool> = example.get_special_tokens_mask().iter().map(|&mask| mask != 0).collect();
        let start = is_added.iter().take_while(|&&is_added| is_added).count();
        let end = is_added.iter().rev().take_while(|&&is_added| is_added).count();
        let ids = example.get_ids();
        if start + end > ids.len() {
            return Err("it makes no token of the text \"a\"".into());
        }
        let (start, end) = (ids[..start].to_vec(), ids[ids.len() - end..].to_vec());
        if let Some(id) = start.iter().chain(&end).find(|&&id| id as usize >= count) {
            return Err(format!("the post_processor adds token {id}, but there are {count}"));
        }

        let special = tokenizer.get_added_vocabulary().clone();
        let mut plain = special.clone();
        plain.set_encode_special_tokens(true);
        Ok(Self {
            normalizer: tokenizer.get_normalizer().cloned(),
            pre_tokenizer: tokenizer.get_pre_tokenizer().cloned(),
            model: tokenizer.get_model().clone(),
            special,
            plain,
            tokens,
            kinds,
            pieces,
            start,
            end,
            prefix: match spaced {
                Prefix::Each if decoder.strips => Prefix::Each,
                _ if decoder.strips => Prefix::First,
                _ => Prefix::None,
            },
        })
    }

    fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, String> {
        let added = if parse_special { &self.special } else { &self.plain };
        let mut pieces = added.extract_and_normalize(self.normalizer.as_ref(), text);
        if let Some(pre_tokenizer) = &self.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut pieces).map_err(|error| error.to_string())?;
        }
        pieces.tokenize(|piece| self.tokenize(piece.get())).map_err(|error| error.to_string())?;
        let splits = pieces.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(splits.iter().flat_map(|(_, _, tokens)| tokens.iter().flatten()).map(|token| token.id).collect())
    }

    /// A vocabulary may hold control tokens as if they were words: where one comes from plain text, the text is
    /// cut behind its first character.
    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let tokens = self.model.tokenize(text)?;
        let mut pieces = Vec::new();
        let mut done = 0;
        for token in &tokens {
            let name = &self.tokens[token.id as usize];
            let forged = self.kinds[token.id as usize] == CONTROL
                && text.get(token.offsets.0..token.offsets.1) == Some(name);
            let first = name.chars().next().map_or(0, char::len_utf8);
            if forged && first < name.len() {
                let cut = token.offsets.0 + first;
                pieces.push(&text[done..cut]);
                done = cut;
            }
        }
        if done == 0 {
            return Ok(tokens);
        }
        pieces.push(&text[done..]);
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(self.tokenize(piece)?);
        }
        Ok(out)
    }
}

/// The crate gives added tokens numbers of its own where it does not like those of the file.
fn check_numbers(tokenizer: &Tokenizer, json: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Added {
        id: u32,
        content: String,
    }
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        added_tokens: Vec<Added>,
    }
    let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    for Added { id, content } in file.added_tokens {
        if tokenizer.token_to_id(&content) != Some(id) {
            return Err(format!("the number of the added token {content:?} is {id}, out of turn"));
        }
    }
    Ok(())
}

/// The parts of a "decoder" that make text of one token.
#[derive(Default)]
struct Decoder {
    byte_level: Option<AHashMap<char, u8>>,
    replaced: Vec<(String, String)>,
    byte_fallback: bool,
    continuing: Option<String>, // WordPiece: what a token begins with that does not begin a word
    words: bool,                // each token is a word
    strips: bool,               // the first token of a text loses a space
}

impl Decoder {
    fn of(json: &Value) -> Result<Self, String> {
        let mut out = Self::default();
        if json.is_null() {
            (out.words, out.strips) = (true, true);
        } else {
            out.add(json)?;
        }
        Ok(out)
    }

    fn add(&mut self, json: &Value) -> Result<(), String> {
        let text = |value: &Value| value.as_str().map(String::from);
        match json["type"].as_str().unwrap_or_default() {
            "Sequence" => {
                for part in json["decoders"].as_array().into_iter().flatten() {
                    self.add(part)?;
                }
            }
            "ByteLevel" => self.byte_level = Some(alphabet().into_iter().zip(0u8..=255).collect()),
            "ByteFallback" => self.byte_fallback = true,
            "Fuse" => {}
            "Replace" => match (text(&json["pattern"]["String"]), text(&json["content"])) {
                (Some(pattern), Some(content)) => self.replaced.push((pattern, content)),
                _ => return Err("decoders that replace by an expression are not supported".into()),
            },
            "Metaspace" => {
                let space = text(&json["replacement"]).unwrap_or_default();
                self.replaced.push((space, " ".into()));
                self.strips = json["prepend_scheme"] != "never";
            }
            "Strip" if json["content"] == " " && json["start"] == 1 && json["stop"] == 0 => {
                self.strips = true
            }
            "WordPiece" => {
                self.continuing = text(&json["prefix"]);
                (self.words, self.strips) = (true, true);
            }
            other => return Err(format!("decoders of type \"{other}\" are not supported")),
        }
        Ok(())
    }

    /// Of a token like <0x0A>.
    fn byte_of(&self, token: &str) -> Option<u8> {
        hexadecimal(token).filter(|_| self.byte_fallback)
    }

    fn piece(&self, token: &str, kind: i32) -> Box<[u8]> {
        if let Some(byte) = self.byte_of(token).filter(|_| kind == BYTE) {
            return [byte].into();
        }
        if kind == CONTROL {
            return token.as_bytes().into();
        }
        if let Some(byte_of) = self.byte_level.as_ref().filter(|_| kind == NORMAL) {
            let bytes = token.chars().map(|char| byte_of.get(&char).copied()).collect::<Option<Box<[u8]>>>();
            return bytes.unwrap_or_else(|| token.as_bytes().into());
        }
        let mut out = token.to_string();
        for (pattern, content) in &self.replaced {
            out = out.replace(pattern, content);
        }
        if self.words {
            let continuing = self.continuing.as_ref().and_then(|prefix| out.strip_prefix(prefix));
            out = continuing.map_or_else(|| format!(" {out}"), String::from);
        }
        out.into_bytes().into()
    }
}

/// Where encoding puts a space in front of text.
fn puts_spaces(normalizer: &Value, pre_tokenizer: &Value) -> Prefix {
    let parts = ["normalizers", "pretokenizers"].into_iter().zip([normalizer, pre_tokenizer]);
    let mut out = Prefix::None;
    for (list, json) in parts {
        let parts = json[list].as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        for part in parts {
            match (part["type"].as_str(), part["prepend_scheme"].as_str()) {
                (Some("Prepend"), _) | (Some("Metaspace"), Some("always")) => return Prefix::Each,
                (Some("Metaspace"), Some("first")) => out = Prefix::First,
                _ => {}
            }
        }
    }
    out
}
