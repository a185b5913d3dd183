//! The C interface that text/text_rust.h declares. Panics end here: they become errors like any other.
#![allow(clippy::missing_safety_doc)] // text_rust.h says what each function wants

mod byte_level;
mod grammar;
mod limits;
mod pipeline;
mod python;
mod rewrite;
mod sentencepiece;
mod template;
mod tokenizer;

use grammar::{Grammar, GrammarVocabulary, Kind};
use pipeline::{Pipeline, Prefix};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::{null, null_mut};
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::str::from_utf8;
use std::sync::Arc;
use template::Template;
use tokenizer::{texts, Tokenizer, Vocabulary};

#[repr(C)]
pub struct Bytes {
    data: *const u8,
    size: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    size: usize,
}

#[repr(C)]
pub struct GgufVocabulary {
    model: Bytes,
    pre: Bytes,
    tokens: *const Bytes,
    kinds: *const i32,
    strips: *const u8,
    n_tokens: usize,
    scores: *const f32,
    n_scores: usize,
    merges: *const Bytes,
    n_merges: usize,
    unknown: i64,
    space_prefix: bool,
}

enum Model {
    Vocabulary(Tokenizer),
    Pipeline(Pipeline),
}

/// What C++ sees of a tokenizer.
#[repr(C)]
pub struct Properties {
    pieces: *const Bytes,
    n_tokens: usize,
    tokens: *const Bytes,
    kinds: *const i32,
    start: *const u32,
    n_start: usize,
    end: *const u32,
    n_end: usize,
    strips_first: bool,
    strips_each: bool,
    usually_bos: bool,
}

pub struct OwnedTokenizer {
    model: Model,
    properties: Properties, // views of the model and of these
    _views: [Vec<Bytes>; 2],
}

impl OwnedTokenizer {
    fn new(model: Model) -> Self {
        let views =
            |bytes: &[Box<[u8]>]| -> Vec<Bytes> { bytes.iter().map(|piece| Bytes::of(piece)).collect() };
        let (pieces, tokens) = match &model {
            Model::Vocabulary(tokenizer) => (views(tokenizer.pieces()), vec![]),
            Model::Pipeline(pipeline) => (
                views(pipeline.pieces()),
                pipeline.tokens().iter().map(|token| Bytes::of(token.as_bytes())).collect(),
            ),
        };
        let mut properties = Properties {
            pieces: pieces.as_ptr(),
            n_tokens: pieces.len(),
            tokens: tokens.as_ptr(),
            kinds: null(),
            start: null(),
            n_start: 0,
            end: null(),
            n_end: 0,
            strips_first: false,
            strips_each: false,
            usually_bos: false,
        };
        match &model {
            Model::Vocabulary(tokenizer) => {
                properties.strips_first = tokenizer.space_prefix();
                properties.strips_each = tokenizer.space_prefix();
                properties.usually_bos = tokenizer.usually_bos();
            }
            Model::Pipeline(pipeline) => {
                properties.kinds = pipeline.kinds().as_ptr();
                (properties.start, properties.n_start) = (pipeline.start().as_ptr(), pipeline.start().len());
                (properties.end, properties.n_end) = (pipeline.end().as_ptr(), pipeline.end().len());
                properties.strips_first = pipeline.prefix() != Prefix::None;
                properties.strips_each = pipeline.prefix() == Prefix::Each;
            }
        }
        Self { model, properties, _views: [pieces, tokens] }
    }
}

/// `data` points to `size` values, or `size` is 0.
unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    match size {
        0 => &[],
        _ => from_raw_parts(data, size),
    }
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len() }
    }

    unsafe fn get<'a>(&self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    unsafe fn text<'a>(&self) -> Result<&'a str, String> {
        from_utf8(self.get()).map_err(|error| error.to_string())
    }
}

impl Buffer {
    fn of(bytes: Vec<u8>) -> Self {
        let bytes = Box::leak(bytes.into_boxed_slice());
        Self { data: bytes.as_mut_ptr(), size: bytes.len() }
    }
}

/// The result of `job`, or nothing after its error (or panic) was written to `error`.
unsafe fn guard<T>(error: *mut Buffer, job: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or(panic.downcast_ref::<&str>().copied());
        Err(format!("internal error: {}", message.unwrap_or("a panic")))
    });
    result.map_err(|message| error.write(Buffer::of(message.into_bytes()))).ok()
}

fn owned<T>(value: Option<T>) -> *mut T {
    value.map_or(null_mut(), |value| Box::into_raw(Box::new(value)))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_new(
    from: &GgufVocabulary,
    error: *mut Buffer,
) -> *mut OwnedTokenizer {
    owned(guard(error, || {
        let views =
            |data, size| -> Vec<&[u8]> { slice::<Bytes>(data, size).iter().map(|view| view.get()).collect() };
        let vocabulary = Vocabulary {
            model: from.model.text()?,
            pre: from.pre.text()?,
            tokens: views(from.tokens, from.n_tokens),
            kinds: slice(from.kinds, from.n_tokens),
            strips: slice(from.strips, from.n_tokens),
            scores: slice(from.scores, from.n_scores),
            merges: views(from.merges, from.n_merges),
            unknown: u32::try_from(from.unknown).ok(),
            space_prefix: from.space_prefix,
        };
        Ok(OwnedTokenizer::new(match vocabulary.model {
            "bert" => {
                let tokens = texts(&vocabulary.tokens)?;
                Model::Pipeline(Pipeline::word_pieces(&tokens, vocabulary.kinds, vocabulary.unknown)?)
            }
            _ => Model::Vocabulary(Tokenizer::new(&vocabulary)?),
        }))
    }))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_parse(json: Bytes, error: *mut Buffer) -> *mut OwnedTokenizer {
    owned(guard(error, || Ok(OwnedTokenizer::new(Model::Pipeline(Pipeline::parse(json.get())?)))))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_set_control(
    tokenizer: &mut OwnedTokenizer,
    ids: *const u32,
    n_ids: usize,
    error: *mut Buffer,
) -> bool {
    let done = guard(error, || match &mut tokenizer.model {
        Model::Vocabulary(_) => Err("a vocabulary has its kinds of tokens already".into()),
        Model::Pipeline(pipeline) => pipeline.set_control(slice(ids, n_ids)),
    });
    done.is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_free(tokenizer: *mut OwnedTokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_properties(tokenizer: &OwnedTokenizer) -> &Properties {
    &tokenizer.properties
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_tokenizer_encode(
    tokenizer: &OwnedTokenizer,
    text: Bytes,
    parse_special: bool,
    out: *mut Buffer,
) -> bool {
    let ids = guard(out, || {
        let text = String::from_utf8_lossy(text.get());
        match &tokenizer.model {
            Model::Vocabulary(tokenizer) => tokenizer.encode(&text, parse_special),
            Model::Pipeline(pipeline) => pipeline.encode(&text, parse_special),
        }
    });
    ids.map(|ids| out.write(Buffer::of(ids.into_iter().flat_map(u32::to_ne_bytes).collect()))).is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_template_new(source: Bytes, error: *mut Buffer) -> *mut Template {
    owned(guard(error, || Template::new(source.text()?)))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_template_free(template: *mut Template) {
    if !template.is_null() {
        drop(Box::from_raw(template));
    }
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_template_render(
    template: &Template,
    variables: Bytes,
    out: *mut Buffer,
) -> bool {
    let text = guard(out, || template.render(variables.text()?));
    text.map(|text| out.write(Buffer::of(text.into_bytes()))).is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_vocabulary_new(
    pieces: *const Bytes,
    n_tokens: usize,
    error: *mut Buffer,
) -> *mut Arc<GrammarVocabulary> {
    owned(guard(error, || {
        let pieces: Vec<&[u8]> = slice::<Bytes>(pieces, n_tokens).iter().map(|piece| piece.get()).collect();
        GrammarVocabulary::new(&pieces).map(Arc::new)
    }))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_vocabulary_free(vocabulary: *mut Arc<GrammarVocabulary>) {
    if !vocabulary.is_null() {
        drop(Box::from_raw(vocabulary));
    }
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_new(
    vocabulary: &Arc<GrammarVocabulary>,
    kind: u32,
    text: Bytes,
    schemas: *const Bytes,
    n_schemas: usize,
    error: *mut Buffer,
) -> *mut Grammar {
    owned(guard(error, || {
        let kind = Kind::of(kind).ok_or("it is of no kind that there is")?;
        let schemas: Result<Vec<&str>, String> =
            slice::<Bytes>(schemas, n_schemas).iter().map(|schema| schema.text()).collect();
        Grammar::new(vocabulary, kind, text.text()?, &schemas?)
    }))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_copy(grammar: &Grammar, error: *mut Buffer) -> *mut Grammar {
    owned(guard(error, || Ok(grammar.copy())))
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_free(grammar: *mut Grammar) {
    if !grammar.is_null() {
        drop(Box::from_raw(grammar));
    }
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_mask(
    grammar: &mut Grammar,
    mask: *mut u32,
    n_words: usize,
    may_end: &mut bool,
    must_end: &mut bool,
    error: *mut Buffer,
) -> bool {
    let ends = guard(error, || {
        let mask = match n_words {
            0 => &mut [],
            _ => from_raw_parts_mut(mask, n_words),
        };
        grammar.mask(mask)
    });
    ends.map(|ends| (*may_end, *must_end) = (ends.may, ends.must)).is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_commit(
    grammar: &mut Grammar,
    token: u32,
    must_end: &mut bool,
    error: *mut Buffer,
) -> bool {
    guard(error, || grammar.commit(token)).map(|must| *must_end = must).is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_grammar_commit_text(
    grammar: &mut Grammar,
    text: Bytes,
    fits: &mut bool,
    error: *mut Buffer,
) -> bool {
    guard(error, || grammar.commit_text(text.get())).map(|it| *fits = it).is_some()
}

#[no_mangle]
pub unsafe extern "C" fn ms_text_free(buffer: Buffer) {
    if !buffer.data.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(buffer.data, buffer.size)));
    }
}
