//! Values as Python writes them, and the filters of Jinja2 and transformers that differ from minijinja's.
use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{filters, Error, ErrorKind, State};
use std::borrow::Cow;
use std::sync::{Arc, Mutex};

const DEEPEST: usize = 200; // a template can nest a list in itself at every step of a loop

/// str(value).
pub fn text(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_string());
    }
    let mut out = String::new();
    write_repr(&mut out, value, 0)?;
    Ok(out)
}

/// str(value).strip(chars), Jinja2's trim.
pub fn trim(value: &Value, chars: Option<&str>) -> Result<String, Error> {
    let text = text(value)?;
    Ok(match chars {
        Some(chars) => text.trim_matches(|char| chars.contains(char)).to_string(),
        None => text.trim().to_string(),
    })
}

/// Jinja2's indent; minijinja's drops a line feed at the end.
pub fn indent(
    value: &Value,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let indent = " ".repeat(width.or(options.get("width")?).unwrap_or(4));
    let first = first.or(options.get("first")?).unwrap_or(false);
    let blank = blank.or(options.get("blank")?).unwrap_or(false);
    options.assert_all_used()?;
    let mut out = String::new();
    for (i, line) in text(value)?.split('\n').enumerate() {
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        out.push_str(if i > 0 { "\n" } else { "" });
        out.push_str(if indented { &indent } else { "" });
        out.push_str(line);
    }
    Ok(out)
}

/// What a loop goes through.
pub fn iterated(value: Value) -> Result<Value, Error> {
    match value.is_none() {
        true => Err(invalid("none is not iterable")),
        false => Ok(value),
    }
}

/// The sum of the values from left to right. Markup (what the filters safe and escape give) and a string are Markup,
/// the string escaped.
pub fn added(state: &State, values: Vec<Value>) -> Result<Value, Error> {
    let mut values = values.into_iter();
    let first = values.next().unwrap_or_default();
    values.try_fold(first, |sum, value| match (sum.as_str(), value.as_str()) {
        (Some(left), Some(right)) if sum.is_safe() || value.is_safe() => {
            let escaped = |text: &str, safe| if safe { text.to_string() } else { escape(text) };
            Ok(Value::from_safe_string(escaped(left, sum.is_safe()) + &escaped(right, value.is_safe())))
        }
        (Some(left), Some(right)) => Ok((left.to_string() + right).into()),
        _ => state.env().compile_expression("a + b")?.eval(minijinja::context! { a => sum, b => value }),
    })
}

/// markupsafe.escape(text).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

/// What Jinja2's map, select and their like give: a generator of Python, which has neither a length nor a JSON form,
/// and ends once.
#[derive(Debug)]
struct Generator(Mutex<std::vec::IntoIter<Value>>);

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let this = self.clone();
        Enumerator::Iter(Box::new(std::iter::from_fn(move || this.0.lock().ok()?.next())))
    }
}

fn generator(values: Vec<Value>) -> Value {
    Value::from_object(Generator(Mutex::new(values.into_iter())))
}

type Test<'a> = Option<Cow<'a, str>>;

pub fn map(state: &State, value: Value, args: Rest<Value>) -> Result<Value, Error> {
    filters::map(state, value, args).map(generator)
}

pub fn select(state: &State, value: Value, test: Test, args: Rest<Value>) -> Result<Value, Error> {
    filters::select(state, value, test, args).map(generator)
}

pub fn reject(state: &State, value: Value, test: Test, args: Rest<Value>) -> Result<Value, Error> {
    filters::reject(state, value, test, args).map(generator)
}

pub fn select_attribute(
    state: &State,
    value: Value,
    name: Cow<str>,
    test: Test,
    args: Rest<Value>,
) -> Result<Value, Error> {
    filters::selectattr(state, value, name, test, args).map(generator)
}

pub fn reject_attribute(
    state: &State,
    value: Value,
    name: Cow<str>,
    test: Test,
    args: Rest<Value>,
) -> Result<Value, Error> {
    filters::rejectattr(state, value, name, test, args).map(generator)
}

/// json.dumps(value, ensure_ascii, indent, separators, sort_keys), with transformers' ensure_ascii=False.
pub fn json(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let by_name: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let style = JsonStyle {
        ascii: ensure_ascii.or(by_name).unwrap_or(false),
        indent: match indent.filter(|indent| !indent.is_none()) {
            Some(indent) if indent.as_str().is_some() => indent.as_str().map(str::to_string),
            Some(indent) => Some(" ".repeat(usize::try_from(indent)?.min(64))),
            None => None,
        },
        sort: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: match separators.as_deref() {
            Some([item, key]) => Some((item.clone(), key.clone())),
            Some(_) => return Err(invalid("tojson: separators must be two strings")),
            None => None,
        },
    };
    options.assert_all_used()?;
    let mut out = String::new();
    style.write(&mut out, value, 0)?;
    Ok(out.into())
}

struct JsonStyle {
    ascii: bool,
    indent: Option<String>,
    sort: bool,
    separators: Option<(String, String)>,
}

impl JsonStyle {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        if value.downcast_object_ref::<Generator>().is_some() {
            return Err(invalid("tojson: a generator has no JSON form; list makes a list of it"));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all(out, ('[', ']'), &items, depth, |out, item| self.write(out, item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                let (_, colon) = self.separators();
                self.write_all(out, ('{', '}'), &keys, depth, |out, key| {
                    self.write_string(out, &text(key)?);
                    out.push_str(colon);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(invalid(format!("tojson: {kind} has no JSON form"))),
        }
        Ok(())
    }

    fn write_all(
        &self,
        out: &mut String,
        (open, close): (char, char),
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let break_line = |out: &mut String, depth| {
            if let Some(indent) = self.indent.as_deref().filter(|_| !items.is_empty()) {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i > 0 { self.separators().0 } else { "" });
            break_line(out, depth + 1);
            write(out, item)?;
        }
        break_line(out, depth);
        out.push(close);
        Ok(())
    }

    fn separators(&self) -> (&str, &str) {
        match (&self.separators, &self.indent) {
            (Some((item, key)), _) => (item, key),
            (None, Some(_)) => (",", ": "),
            (None, None) => (", ", ": "),
        }
    }

    fn write_string(&self, out: &mut String, string: &str) {
        out.push('"');
        for char in string.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                char if char < ' ' || (self.ascii && char > '~') => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                char => out.push(char),
            }
        }
        out.push('"');
    }
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    check_depth(depth)?;
    match value.kind() {
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()), // True, None, a macro's name; nothing for an undefined value
    }
    Ok(())
}

fn write_quoted(out: &mut String, string: &str) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for char in string.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            char if char == quote => out.extend(['\\', char]),
            char if char < ' ' || char == '\u{7f}' => out.push_str(&format!("\\x{:02x}", char as u32)),
            char => out.push(char),
        }
    }
    out.push(quote);
}

/// A number as repr() has it: 1e+16 and 1e-05 where Rust has 1e16 and 1e-5.
fn number(value: &Value) -> String {
    let Some(float) = f64::try_from(value.clone()).ok().filter(|_| !value.is_integer()) else {
        return value.to_string();
    };
    let rust = format!("{float:?}").to_lowercase();
    match rust.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => rust,
    }
}

fn check_depth(depth: usize) -> Result<(), Error> {
    match depth {
        0..=DEEPEST => Ok(()),
        _ => Err(invalid(format!("a value is nested deeper than {DEEPEST} levels"))),
    }
}

fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
