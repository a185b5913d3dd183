//! Grammars that hold a model's output to a form, through llguidance: masks over a vocabulary, a token at a
//! time. A grammar comes from anyone: its size, and the memory and time of its compilation and of each mask,
//! are limited.
use crate::limits::{run, Limits, Stopped};
use ahash::AHashMap;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{panic_utils, Matcher, ParserFactory};
use serde_json::{json, Map, Value};
use std::fmt::Display;
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::Duration;

const LONGEST: usize = 256 << 10; // bytes of a schema, regex or grammar
const LONGEST_TOKEN: usize = 1000; // bytes; longer ones are never allowed: the trie ends there
const MOST_TOKENS: usize = 1 << 22; // the trie's, too
const STACK: usize = 16 << 20;
const COMPILING: Limits = Limits { memory: 256 << 20, time: Duration::from_secs(10), stack: STACK };
const STEPPING: Limits = Limits { memory: 64 << 20, time: Duration::from_secs(5), stack: STACK };

/// What goes beyond these limits never gives its memory back, so not much of it may: bytes.
const MOST_LOST: usize = 1 << 30;
static LOST: AtomicUsize = AtomicUsize::new(0);

/// llguidance's own, per grammar and per mask. Its defaults, but for a lexer's states, of one or two KiB each,
/// and for what is spent on compiling it: that ends before the limits above, at which memory is lost.
const PARSING: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 250_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 50_000,
    max_grammar_size: 500_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// "multipleOf" becomes a machine of as many states, whose number llguidance does not limit and, beyond 2^32 / 10,
/// miscounts. Numbers that must hold at once are multiplied, so that all those of a schema count together.
const MOST_MULTIPLE: u64 = 100_000;

/// Values of "format" that llguidance enforces. By the standard, others say nothing of what is valid.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

const LONGEST_LINE: usize = 200; // characters of a message
const MOST_LINES: usize = 20;

const NOTHING: &str = "no token of the vocabulary can follow";

/// White space between the tokens of JSON, unless a schema's "x-guidance" says otherwise: none, a blank, or a
/// line feed and its indentation. Without a bound, models that like blanks write nothing else.
const SPACE: &str = r"\x20|\n\x20{0,24}";

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    JsonObject,
    JsonSchema,
    Regex,
    Lark,
}

impl Kind {
    /// As ms::Grammar::Kind counts.
    pub fn of(number: u32) -> Option<Self> {
        [Self::JsonObject, Self::JsonSchema, Self::Regex, Self::Lark].get(number as usize).copied()
    }
}

/// A vocabulary as a trie of the tokens' bytes.
pub struct GrammarVocabulary {
    factory: Arc<ParserFactory>,
    is_text: Vec<bool>,
    alike: Vec<Vec<usize>>, // tokens of the same bytes, of which the trie has but one
}

impl GrammarVocabulary {
    /// `pieces`: the bytes of each token; empty for those that no text has.
    pub fn new(pieces: &[&[u8]]) -> Result<Self, String> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            // llguidance's panic hook reads the program's debug information for a backtrace, which takes more
            // time and memory than the limits below allow.
            let hook = take_hook();
            let _ = panic_utils::catch_unwind(|| Ok(()));
            set_hook(hook);
        });
        // A first byte of 0xFF, which UTF-8 never has, marks special tokens. The only one is the last, which
        // stands for all that end a text, and which no vocabulary has.
        if pieces.len() > MOST_TOKENS {
            return Err(format!("it has {} tokens, at most {MOST_TOKENS} are handled", pieces.len()));
        }
        let is_text = |piece: &[u8]| piece.first() != Some(&0xFF) && piece.len() <= LONGEST_TOKEN;
        let text = |piece: &[u8]| if is_text(piece) { piece.to_vec() } else { Vec::new() };
        let mut words: Vec<Vec<u8>> = pieces.iter().map(|piece| text(piece)).collect();
        let is_text = words.iter().map(|word| !word.is_empty()).collect();
        let mut ids: AHashMap<&[u8], Vec<usize>> = AHashMap::new();
        for (id, word) in words.iter().enumerate().filter(|(_, word)| !word.is_empty()) {
            ids.entry(word).or_default().push(id);
        }
        let alike = ids.into_values().filter(|ids| ids.len() > 1).collect();
        let end = words.len() as u32;
        words.push(b"\xFF<end>".to_vec());
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new(&env, InferenceCapabilities::default(), &SlicedBiasComputer::json_slices())
                .map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = PARSING;
        Ok(Self { factory: Arc::new(factory), is_text, alike })
    }
}

/// Where a text stands in a grammar: at first at its beginning.
pub struct Grammar {
    matcher: Option<Matcher>, // none after a step beyond the limits
    vocabulary: Arc<GrammarVocabulary>,
}

/// What may follow besides the tokens of a mask.
#[derive(Default)]
pub struct Ends {
    pub may: bool,
    pub must: bool,
}

impl Grammar {
    /// `schemas`: the rules schema_0, schema_1, … of a Lark grammar.
    pub fn new(
        vocabulary: &Arc<GrammarVocabulary>,
        kind: Kind,
        text: &str,
        schemas: &[&str],
    ) -> Result<Self, String> {
        let bytes = text.len() + schemas.iter().map(|schema| schema.len()).sum::<usize>();
        if bytes > LONGEST {
            return Err(format!("it has {bytes} bytes, at most {LONGEST} are handled"));
        }
        if LOST.load(Relaxed) > MOST_LOST {
            return Err(format!(
                "others went beyond their limits, by which more than {MOST_LOST} bytes of memory are lost: \
                 until a restart no more are compiled"
            ));
        }
        let (factory, text) = (vocabulary.factory.clone(), text.to_string());
        let schemas: Vec<String> = schemas.iter().map(|schema| schema.to_string()).collect();
        let matcher = limited(COMPILING, move || {
            let grammar = match kind {
                Kind::JsonObject => TopLevelGrammar::from_json_schema(schema(r#"{"type": "object"}"#)?),
                Kind::JsonSchema => TopLevelGrammar::from_json_schema(schema(&text)?),
                Kind::Regex => TopLevelGrammar::from_regex(&text),
                Kind::Lark
                    if text.contains("%json") && ["multipleOf", "\\u"].iter().any(|it| text.contains(it)) =>
                {
                    return Err("with %json, neither multipleOf nor \\u is supported".into())
                }
                Kind::Lark => {
                    let mut text = text;
                    for (i, one) in schemas.iter().enumerate() {
                        let one = schema(one).map_err(|error| format!("schema_{i}: {error}"))?;
                        text += &format!("\nschema_{i}: %json {one}");
                    }
                    TopLevelGrammar::from_lark(text)
                }
            };
            let parser = factory.create_parser(grammar).map_err(|error| plain(&error))?;
            let matcher = Matcher::new(Ok(parser));
            matcher.get_error().map_or(Ok(matcher), Err)
        });
        Ok(Self { matcher: Some(matcher??), vocabulary: vocabulary.clone() })
    }

    /// One for another text, from where this stands. Neither sees the other's tokens or fills its tables.
    pub fn copy(&self) -> Self {
        Self { matcher: self.matcher.as_ref().map(Matcher::deep_clone), vocabulary: self.vocabulary.clone() }
    }

    /// Sets the bit of each token that may follow; where the text must end, none.
    pub fn mask(&mut self, mask: &mut [u32]) -> Result<Ends, String> {
        let end = self.vocabulary.is_text.len();
        if mask.len() < end.div_ceil(32) {
            return Err(format!("a mask of {} words for {end} tokens", mask.len()));
        }
        mask.fill(0);
        let Some(allowed) = self.step(|matcher| match matcher.is_stopped() && !matcher.is_error() {
            true => Ok(None),
            false => matcher.compute_mask().map(Some).map_err(|error| plain(&error)),
        })?
        else {
            return Ok(Ends { may: true, must: true });
        };
        let mut any = false;
        for id in allowed.iter().map(|id| id as usize).filter(|&id| id < end) {
            // A grammar may name tokens by number, and so control tokens.
            if self.vocabulary.is_text[id] {
                mask[id / 32] |= 1 << (id % 32);
                any = true;
            }
        }
        for ids in &self.vocabulary.alike {
            if ids.iter().any(|id| mask[id / 32] >> (id % 32) & 1 != 0) {
                ids.iter().for_each(|id| mask[id / 32] |= 1 << (id % 32));
            }
        }
        let may = allowed.is_allowed(end as u32);
        if !any && !may {
            return Err(NOTHING.into());
        }
        Ok(Ends { may, must: !any })
    }

    /// Goes on by a token. Returns whether the text must end behind it.
    pub fn commit(&mut self, token: u32) -> Result<bool, String> {
        if !self.vocabulary.is_text.get(token as usize).is_some_and(|&is_text| is_text) {
            return Err(format!("token {token} is no text"));
        }
        self.step(move |matcher| {
            matcher.consume_token(token).map_err(|error| plain(&error))?;
            Ok(matcher.is_stopped())
        })
    }

    /// Goes on by a text, whatever tokens spell it. False, where the grammar does not go so: then it stands
    /// where it did.
    pub fn commit_text(&mut self, text: &[u8]) -> Result<bool, String> {
        let text = text.to_vec();
        self.step(move |matcher| {
            let tokens = matcher.tok_env().map_err(|error| plain(&error))?.tok_trie().greedy_tokenize(&text);
            let fits = matcher.validate_tokens(&tokens).map_err(|error| plain(&error))? == tokens.len();
            if fits {
                matcher.consume_tokens(&tokens).map_err(|error| plain(&error))?;
            }
            Ok(fits)
        })
    }

    /// A job with the matcher, within limits.
    fn step<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Matcher) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let mut matcher = self.matcher.take().ok_or("it went beyond its limits before")?;
        let (matcher, result) = limited(STEPPING, move || {
            let result = job(&mut matcher);
            (matcher, result)
        })?;
        self.matcher = Some(matcher);
        result
    }
}

fn limited<T: Send + 'static>(limits: Limits, job: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    run(limits, job).map_err(|stopped| {
        if matches!(stopped, Stopped::Memory(_) | Stopped::Time(_)) {
            LOST.fetch_add(limits.memory, Relaxed);
        }
        stopped.to_string()
    })
}

/// A JSON schema with the white space that is ours, without formats that say nothing, with oneOf as anyOf, and with
/// objects that have the members of "properties" alone.
fn schema(text: &str) -> Result<Value, String> {
    let mut schema: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let mut numbers = Vec::new();
    find_multiples(&schema, &mut numbers);
    limit_multiples(&numbers)?;
    drop_unknown_formats(&mut schema);
    if !has_sums(&mut schema) {
        close_objects(&mut schema);
    }
    match &mut schema {
        Value::Bool(_) => Ok(json!({ "allOf": [schema], "x-guidance": { "whitespace_pattern": SPACE } })),
        Value::Object(members) => {
            let options = members.entry("x-guidance").or_insert_with(|| json!({}));
            if let Some(options) = options.as_object_mut().filter(|it| it.keys().all(|key| key == "lenient"))
            {
                options.insert("whitespace_pattern".into(), SPACE.into());
                options.insert("coerce_one_of".into(), true.into());
            }
            Ok(schema)
        }
        _ => Err("it is neither an object nor true or false".into()),
    }
}

fn drop_unknown_formats(schema: &mut Value) {
    if let Value::Object(members) = schema {
        let known = |value: &Value| value.as_str().is_none_or(|format| FORMATS.contains(&format));
        members.retain(|name, value| name != "format" || known(value));
    }
    for (_, part) in parts(schema) {
        drop_unknown_formats(part);
    }
}

/// Of instances, which may have any members.
fn is_data(name: &str) -> bool {
    matches!(name, "const" | "enum" | "default" | "examples")
}

/// Whose members are schemas by names that are no keywords.
fn names_schemas(name: &str) -> bool {
    matches!(name, "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas")
}

/// What may be schemas within a schema, each with the keyword that it belongs to.
fn parts(schema: &mut Value) -> Vec<(&str, &mut Value)> {
    let mut parts = Vec::new();
    match schema {
        Value::Array(elements) => parts.extend(elements.iter_mut().map(|element| ("", element))),
        Value::Object(members) => {
            for (name, value) in members.iter_mut().filter(|(name, _)| !is_data(name)) {
                if names_schemas(name) && value.is_object() {
                    let schemas = value.as_object_mut().into_iter().flat_map(Map::values_mut);
                    parts.extend(schemas.map(|value| (name.as_str(), value)));
                } else {
                    parts.push((name.as_str(), value));
                }
            }
        }
        _ => {}
    }
    parts
}

/// Keywords whose schemas hold for the same value as what stands beside them.
const BESIDE: [&str; 10] = [
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "then",
    "else",
    "$ref",
    "$dynamicRef",
    "dependentSchemas",
    "dependencies",
];

fn names_members(schema: &mut Value) -> bool {
    let own =
        |members: &Map<String, Value>| ["properties", "$ref"].iter().any(|it| members.contains_key(*it));
    schema.as_object().is_some_and(own) || parts(schema).into_iter().any(|(_, part)| names_members(part))
}

/// Whether members of one object may be named in several parts of a schema. Closed, such parts would contradict each
/// other.
fn has_sums(schema: &mut Value) -> bool {
    let is_sum = schema.as_object_mut().is_some_and(|members| {
        let own = ["properties", "patternProperties", "additionalProperties", "required", "minProperties"];
        let own = own.iter().any(|name| members.contains_key(*name));
        let others = BESIDE.iter().filter(|name| match members.get_mut(**name) {
            Some(_) if name.starts_with('$') => true,
            Some(part) => names_members(part),
            None => false,
        });
        let others = others.count();
        members.contains_key("allOf") || others + usize::from(own) > 1
    });
    is_sum || parts(schema).into_iter().any(|(_, part)| has_sums(part))
}

/// An object whose members are named has no others, unless its schema says so. The standard has it the other way round,
/// and few who write schemas know: a model that may invent members does. What is held so is valid by the schema as it
/// was.
fn close_objects(schema: &mut Value) {
    const OPEN: [&str; 6] = [
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "propertyNames",
        "dependentRequired",
        "minProperties",
    ];
    if let Value::Object(members) = schema {
        if let Some(Value::Object(named)) = members.get("properties") {
            let required = members.get("required").and_then(Value::as_array).into_iter().flatten();
            let all_named = required.filter_map(Value::as_str).all(|name| named.contains_key(name));
            if all_named && !OPEN.iter().chain(&BESIDE).any(|name| members.contains_key(*name)) {
                members.insert("additionalProperties".into(), false.into());
            }
        }
    }
    // What must not hold, or holds of some alone, would be less than it was.
    for (_, part) in parts(schema).into_iter().filter(|(name, _)| !["not", "if", "contains"].contains(name)) {
        close_objects(part);
    }
}

/// The numbers of all "multipleOf" in a schema, as digits and how many of them are decimals.
fn find_multiples(schema: &Value, out: &mut Vec<(f64, u32)>) {
    match schema {
        Value::Array(elements) => elements.iter().for_each(|element| find_multiples(element, out)),
        Value::Object(members) => {
            for (name, value) in members {
                find_multiples(value, out);
                if let Some(mut number) =
                    value.as_f64().filter(|number| name == "multipleOf" && *number > 0.0)
                {
                    let mut decimals = 0;
                    while number.fract() != 0.0 && decimals < 20 {
                        decimals += 1;
                        number = value.as_f64().unwrap_or(0.0) * 10f64.powi(decimals as i32);
                        number = if (number - number.round()).abs() < 1e-9 * number {
                            number.round()
                        } else {
                            number
                        };
                    }
                    out.push((number, decimals));
                }
            }
        }
        _ => {}
    }
}

fn limit_multiples(numbers: &[(f64, u32)]) -> Result<(), String> {
    let decimals = numbers.iter().map(|(_, decimals)| *decimals).max().unwrap_or(0);
    let mut all = 1;
    for (number, own) in numbers {
        let number = number.round() * 10f64.powi((decimals - own) as i32);
        if number <= MOST_MULTIPLE as f64 {
            let (mut a, mut b) = (all, number as u64);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            all = all / a * number as u64;
        }
        if number > MOST_MULTIPLE as f64 || all > MOST_MULTIPLE {
            return Err(format!(
                "multipleOf: the least common multiple of all, counted in units of the last decimal, is more \
                 than {MOST_MULTIPLE}"
            ));
        }
    }
    Ok(())
}

/// The message without what llguidance adds of its state, and of an option that is no user's to set.
fn plain(error: &impl Display) -> String {
    let message = format!("{error:#}");
    if message.starts_with("NoExtensionBias") {
        return NOTHING.into();
    }
    let ends = ["\n<non-verbose/>", "\n<backtrace>", " Enable 'coerce_one_of'"];
    let end = ends.iter().filter_map(|mark| message.find(mark)).min();
    let message = message[..end.unwrap_or(message.len())].trim_end();
    // It may quote the grammar at length, a line of which is enough.
    let short = |line: &str| match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_string(),
    };
    message.lines().take(MOST_LINES).map(short).collect::<Vec<_>>().join("\n")
}
