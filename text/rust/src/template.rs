//! Chat templates: Jinja as transformers' apply_chat_template runs it. A template comes with a model, from
//! anyone: its steps, memory, time and output are limited.
use crate::limits::{run, Limits, Stopped};
use crate::python;
use crate::rewrite::{rewrite, ADDED, ITERATED};
use chrono::Local;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const NAME: &str = "chat template";

pub struct Template {
    environment: Environment<'static>,
    stopped: AtomicBool, // at a limit: what it holds then is never given back, so it does not run again
}

impl Template {
    pub fn new(source: &str) -> Result<Self, String> {
        let source = source.to_string();
        let mut environment = environment();
        // Fills, outside of any limit, the one table that minijinja makes late and shares between threads.
        let _ = environment.render_str("{{ 1|escape }}", ());
        let environment = run(limits(source.len()), move || {
            let template = environment.add_template_owned(NAME, rewrite(&source));
            template.map_err(|error| explain(&error)).map(|_| environment)
        });
        let environment = environment.unwrap_or_else(|stopped| Err(stopped.to_string()))?;
        Ok(Self { environment, stopped: AtomicBool::new(false) })
    }

    /// `variables`: a JSON object, what the template sees.
    pub fn render(&self, variables: &str) -> Result<String, String> {
        if self.stopped.load(Relaxed) {
            return Err("it went beyond its limits before, and does not run again".into());
        }
        let bytes = variables.len();
        let longest = (4 << 20) + 8 * bytes;
        let steps = 2_000_000 + 20 * bytes as u64; // the templates of today take less than 10 for a byte
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        let variables = variables.to_string();
        let result = run(limits(bytes), move || {
            let variables: Value = serde_json::from_str(&variables).map_err(|error| error.to_string())?;
            let template = environment.get_template(NAME).map_err(|error| explain(&error))?;
            let mut out = Output { bytes: Vec::new(), longest };
            match template.render_captured_to(variables, &mut out) {
                Ok(_) => String::from_utf8(out.bytes).map_err(|error| error.to_string()),
                Err(error) => Err(match error.kind() {
                    ErrorKind::OutOfFuel => format!("it takes more than {steps} steps"),
                    ErrorKind::WriteFailure => format!("it writes more than {longest} bytes"),
                    _ => explain(&error),
                }),
            }
        });
        result.unwrap_or_else(|stopped| {
            self.stopped.store(matches!(stopped, Stopped::Memory(_) | Stopped::Time(_)), Relaxed);
            Err(stopped.to_string())
        })
    }
}

/// What is nested as deeply as the memory allows is parsed, printed, compared and dropped by recursion: a
/// level takes at least 64 bytes of memory, and at most 1 KiB of stack.
const STACK_PER_MEMORY: usize = 16;

/// For a template or a conversation of so many bytes.
fn limits(bytes: usize) -> Limits {
    let memory = (32 << 20) + 64 * bytes;
    Limits { memory, time: Duration::from_secs(10), stack: memory.saturating_mul(STACK_PER_MEMORY) }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.set_formatter(|out, _, value| out.write_str(&python::text(value)?).map_err(Error::from));
    environment.add_filter("tojson", python::json);
    environment.add_filter("string", python::text);
    environment.add_filter("trim", python::trim);
    environment.add_filter("indent", python::indent);
    environment.add_filter(ITERATED, python::iterated);
    environment.add_filter(ADDED, python::added);
    environment.add_filter("map", python::map);
    environment.add_filter("select", python::select);
    environment.add_filter("reject", python::reject);
    environment.add_filter("selectattr", python::select_attribute);
    environment.add_filter("rejectattr", python::reject_attribute);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

struct Output {
    bytes: Vec<u8>,
    longest: usize,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.longest {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The methods of Python's str, dict and list. Those that minijinja-contrib lacks or has otherwise come
/// first: there find() counts bytes where slices count characters, and count("") never ends.
fn python_method(state: &State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let (Some(text), [what]) = (value.as_str(), args) {
        let position = |found: Option<usize>| found.map_or(-1, |at| text[..at].chars().count() as i64);
        match (method, what.as_str()) {
            ("find", Some(what)) => return Ok(position(text.find(what)).into()),
            ("rfind", Some(what)) => return Ok(position(text.rfind(what)).into()),
            ("removeprefix", Some(what)) => return Ok(text.strip_prefix(what).unwrap_or(text).into()),
            ("removesuffix", Some(what)) => return Ok(text.strip_suffix(what).unwrap_or(text).into()),
            ("count", Some("")) => return Ok((text.chars().count() + 1).into()),
            _ => {}
        }
    }
    unknown_method_callback(state, value, method, args)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    write!(out, "{}", Local::now().format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now does not know the format {format:?}"))
    })?;
    Ok(out)
}

/// The message and its causes, with the line of the template.
fn explain(error: &Error) -> String {
    let mut out = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(out, ": {cause}");
        source = cause.source();
    }
    out
}
