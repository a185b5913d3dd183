//! Byte-level BPE in the manner of GPT-2: text is split by regular expressions, the bytes of each piece are
//! written as printable characters, and the merges join them.
use ahash::AHashMap;
use fancy_regex::{Regex, RegexBuilder};
use tokenizers::models::bpe::BPE;
use tokenizers::Model;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
// The cased letters of Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and others, as published.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

/// How text is split before the merges: each expression in turn isolates its matches in the pieces so far.
struct Split {
    expressions: &'static [&'static str],
    whole_words: bool, // a piece that is a token as it stands is not taken apart ("ignore_merges")
}

/// The split of `tokenizer.ggml.pre`, from the tokenizer.json of the models of that name.
fn split(pre: &str) -> Result<Split, String> {
    let (expressions, whole_words): (&[&str], bool) = match pre {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "exaone4" | "gigachat" | "a.x-4.0" | "mellum"
        | "modern-bert" | "trillion" | "granite-docling" => (&[GPT2], false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            (&[r"\p{N}", GPT2], false)
        }
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2" => {
            (&[LLAMA3], true)
        }
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => (&[LLAMA3], false),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "stablelm2" | "hunyuan" | "grok-2" | "kormo"
        | "solar-open" => (&[QWEN2], false),
        "qwen35" => (&[QWEN35], false),
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => (&[GPT4O], false),
        "tekken" => (&[TEKKEN], true),
        "deepseek-llm" => (
            &[r"[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
            false,
        ),
        "deepseek-coder" => (
            &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
            false,
        ),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => {
            (&[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3], false)
        }
        "falcon" => (&[r"[\p{P}$+<=>^~|`]+", GPT2, r"[0-9][0-9][0-9]"], false),
        "default" => (&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], false),
        _ => return Err(format!("the split \"{pre}\" (tokenizer.ggml.pre) is not known")),
    };
    Ok(Split { expressions, whole_words })
}

/// GPT-2's alphabet: the character that stands for each byte.
pub fn alphabet() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| match byte as u8 {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as u8 as char,
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap_or_default()
        }
    })
}

pub struct ByteLevel {
    expressions: Vec<Regex>,
    alphabet: [char; 256],
    bpe: BPE,
}

impl ByteLevel {
    /// `vocabulary`: what text may turn into; `merges`: pairs of its tokens, the first merges first.
    pub fn new(
        pre: &str,
        vocabulary: AHashMap<String, u32>,
        merges: Vec<(String, String)>,
    ) -> Result<Self, String> {
        let split = split(pre)?;
        let alphabet = alphabet();
        // 0xC0, 0xC1 and 0xF5 upwards do not occur in UTF-8.
        for byte in (0..=0xF4).filter(|byte| !matches!(byte, 0xC0 | 0xC1)) {
            if !vocabulary.contains_key(alphabet[byte].encode_utf8(&mut [0; 4]) as &str) {
                return Err(format!("no token spells the byte 0x{byte:02X} ({:?})", alphabet[byte]));
            }
        }
        let expressions = split.expressions.iter().map(|expression| {
            let regex = RegexBuilder::new(expression).backtrack_limit(usize::MAX).build();
            regex.map_err(|error| error.to_string())
        });
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(split.whole_words);
        Ok(Self {
            expressions: expressions.collect::<Result<_, _>>()?,
            alphabet,
            bpe: bpe.build().map_err(|error| error.to_string())?,
        })
    }

    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        let mut pieces = vec![text];
        for expression in &self.expressions {
            pieces = isolate(expression, &pieces)?;
        }
        let mut spelled = String::new();
        for piece in pieces {
            spelled.clear();
            spelled.extend(piece.bytes().map(|byte| self.alphabet[byte as usize]));
            let tokens = self.bpe.tokenize(&spelled).map_err(|error| error.to_string())?;
            out.extend(tokens.iter().map(|token| token.id));
        }
        Ok(())
    }
}

/// Cuts each piece into the matches of `expression` and what lies between them.
fn isolate<'t>(expression: &Regex, pieces: &[&'t str]) -> Result<Vec<&'t str>, String> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut done = 0;
        for found in expression.find_iter(piece) {
            let found = found.map_err(|error| format!("the text cannot be split into words: {error}"))?;
            if found.start() > done {
                out.push(&piece[done..found.start()]);
            }
            out.push(found.as_str());
            done = found.end();
        }
        if done < piece.len() {
            out.push(&piece[done..]);
        }
    }
    Ok(out)
}
