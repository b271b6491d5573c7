//! Settings in layers: flag over environment over TOML file over default, from one table.
//!
//! A program lists its settings as data ([`Setting`]); command line, environment names, the TOML file, `--print-config`
//! and the documentation all come from that list. `marea-seeder` uses the same code.
//!
//! ```
//! use marea_signaling::layered::{Layers, Setting, Shape};
//!
//! const LAYERS: Layers = Layers {
//!     prefix: "EXAMPLE_",
//!     settings: &[Setting {
//!         key: "listen",
//!         shape: Shape::Text,
//!         default: Some("127.0.0.1:8080"),
//!         example: "ADDR",
//!         help: "Address and port to listen on.",
//!     }],
//! };
//! let matches = clap::Command::new("example").args(LAYERS.args()).get_matches_from(["example", "--listen", "[::1]:1"]);
//! let values = LAYERS.load(&matches, std::iter::empty()).unwrap();
//! assert_eq!(values.parse::<std::net::SocketAddr>("listen").unwrap().unwrap().port(), 1);
//! ```

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::{Arg, ArgAction, ArgMatches, parser::ValueSource};

/// One setting of a program.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Name, in kebab case: `--public-url`, `PREFIX_PUBLIC_URL`, `public-url = …`.
    pub key: &'static str,
    /// What its value looks like.
    pub shape: Shape,
    /// The default as one would type it; commas between the items of a list. `None`: not set.
    pub default: Option<&'static str>,
    /// An example value; shown after the flag, and in the printed file where nothing is set.
    pub example: &'static str,
    /// What it does and why the default is what it is. Sentences; the first one is the short help.
    pub help: &'static str,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any text.
    Text,
    /// A whole number from 0.
    Number,
    /// On or off; the flag alone means on.
    Switch,
    /// Texts. The flag may be repeated, flag and environment split at commas. A higher layer replaces the whole list.
    List,
}

/// The settings of a program and the prefix of its environment variables (with the underscore at its end).
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// Such as `MAREA_SIGNALING_`.
    pub prefix: &'static str,
    /// Every setting, in the order of `--help` and of the printed file.
    pub settings: &'static [Setting],
}

/// Why the settings cannot be used. Ends a program with exit code 2 (usage).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file named by `--config` could not be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{} is not valid TOML: {error}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: Box<toml::de::Error>,
    },
    /// A key or an environment variable that this program does not know.
    #[error("unknown setting `{key}` in {place}{}", hint(nearest.as_deref()))]
    UnknownKey {
        /// The key as found.
        key: String,
        /// The file, or "the environment".
        place: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that does not fit its setting.
    #[error("`{key}` {origin}: {reason}")]
    BadValue {
        /// The setting.
        key: String,
        /// Where the value was set, as "(from …)".
        origin: String,
        /// What is wrong and what is expected.
        reason: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("(default)"),
            Self::File(path) => write!(f, "(from {})", path.display()),
            Self::Environment(name) => write!(f, "(from the environment variable {name})"),
            Self::Flag => f.write_str("(from the command line)"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Number(u64),
    Switch(bool),
    List(Vec<String>),
}

/// The settings in force, with where each came from.
#[derive(Clone, Debug)]
pub struct Values {
    layers: Layers,
    values: BTreeMap<&'static str, (Value, Origin)>,
    /// The TOML file that was read.
    pub file: Option<PathBuf>,
    /// `--print-config` was given: print [`Values::to_toml`] on stdout and exit 0.
    pub print: bool,
    /// `--check-config` was given: exit 0 once everything was read.
    pub check: bool,
}

impl Layers {
    /// Arguments for a [`clap::Command`]: one per setting, `--config`, `--print-config` and `--check-config`.
    pub fn args(&self) -> Vec<Arg> {
        let mut args = vec![
            Arg::new("config").long("config").value_name("FILE").help("TOML file with the settings below"),
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print the settings in force as a commented TOML file, and exit"),
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Check flags, environment and file, and exit"),
        ];
        for setting in self.settings {
            let mut help = first_sentence(setting.help).to_owned();
            if let Some(default) = setting.default.filter(|default| !default.is_empty()) {
                let _ = write!(help, " [default: {default}]");
            }
            let arg = Arg::new(setting.key).long(setting.key).help(help).long_help(long_help(setting));
            args.push(match setting.shape {
                Shape::Text | Shape::Number => arg.value_name(setting.example),
                Shape::List => arg.value_name(setting.example).action(ArgAction::Append),
                Shape::Switch => {
                    arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("true|false")
                }
            });
        }
        args
    }

    /// Reads the layers. `environment` is usually [`std::env::vars_os`].
    ///
    /// # Errors
    /// The file is missing or no TOML, a key or variable is unknown, or a value has the wrong shape.
    pub fn load(
        &self,
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Values, ConfigError> {
        let mut values = BTreeMap::new();
        for setting in self.settings {
            if let Some(default) = setting.default {
                values.insert(setting.key, (read(setting, default, &Origin::Default)?, Origin::Default));
            }
        }
        let (environment, config) = self.environment(environment)?;
        let file = matches.get_one::<String>("config").map(PathBuf::from).or(config);
        if let Some(path) = &file {
            self.read_file(path, &mut values)?;
        }
        values.extend(environment);
        for setting in self.settings {
            if matches.value_source(setting.key) != Some(ValueSource::CommandLine) {
                continue;
            }
            let given: Vec<&str> =
                matches.get_many::<String>(setting.key).into_iter().flatten().map(String::as_str).collect();
            values.insert(setting.key, (read(setting, &given.join(","), &Origin::Flag)?, Origin::Flag));
        }
        let (print, check) = (matches.get_flag("print-config"), matches.get_flag("check-config"));
        Ok(Values { layers: *self, values, file, print, check })
    }

    #[expect(clippy::type_complexity, reason = "used once")]
    fn environment(
        &self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(BTreeMap<&'static str, (Value, Origin)>, Option<PathBuf>), ConfigError> {
        let mut values = BTreeMap::new();
        let mut config = None;
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(self.prefix)) else { continue };
            // As in most programs: set to nothing is not set.
            if value.is_empty() {
                continue;
            }
            let key = name[self.prefix.len()..].to_ascii_lowercase().replace('_', "-");
            if key == "config" {
                config = Some(PathBuf::from(value));
                continue;
            }
            let origin = Origin::Environment(name.to_owned());
            let Some(setting) = self.setting(&key) else {
                let nearest = self.nearest(&key).map(|known| self.variable(known));
                return Err(ConfigError::UnknownKey { key: name.to_owned(), place: "the environment".into(), nearest });
            };
            let Some(text) = value.to_str() else { return Err(bad(setting.key, &origin, "is not UTF-8")) };
            values.insert(setting.key, (read(setting, text, &origin)?, origin));
        }
        Ok((values, config))
    }

    fn read_file(&self, path: &Path, values: &mut BTreeMap<&'static str, (Value, Origin)>) -> Result<(), ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
        let table: toml::Table =
            text.parse().map_err(|error| ConfigError::Syntax { path: path.to_owned(), error: Box::new(error) })?;
        let origin = Origin::File(path.to_owned());
        for (key, value) in table {
            let Some(setting) = self.setting(&key) else {
                let nearest = self.nearest(&key).map(str::to_owned);
                return Err(ConfigError::UnknownKey { key, place: path.display().to_string(), nearest });
            };
            values.insert(setting.key, (from_toml(setting, value, &origin)?, origin.clone()));
        }
        Ok(())
    }

    fn setting(&self, key: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    fn variable(&self, key: &str) -> String {
        format!("{}{}", self.prefix, key.to_ascii_uppercase().replace('-', "_"))
    }

    /// The known key that differs least, if it is near enough to be meant.
    fn nearest(&self, key: &str) -> Option<&'static str> {
        let key = key.to_ascii_lowercase().replace('_', "-");
        let (distance, known) =
            self.settings.iter().map(|setting| (edit_distance(&key, setting.key), setting.key)).min()?;
        (distance <= (key.len() / 2).max(2)).then_some(known)
    }
}

impl Values {
    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some((Value::Text(text), _)) => Some(text),
            _ => None,
        }
    }

    /// A text, parsed.
    ///
    /// # Errors
    /// Names the setting, where it was set, and what `T` said.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        self.text(key).map(|text| self.parse_item(key, text)).transpose()
    }

    /// A list, each item parsed; empty if not set.
    ///
    /// # Errors
    /// Names the setting, where it was set, and what `T` said.
    pub fn parse_list<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Vec<T>, ConfigError> {
        self.list(key).iter().map(|text| self.parse_item(key, text)).collect()
    }

    fn parse_item<T: FromStr<Err: fmt::Display>>(&self, key: &str, text: &str) -> Result<T, ConfigError> {
        text.parse().map_err(|error: T::Err| self.refuse(key, format!("cannot use {text:?}: {error}")))
    }

    /// A list; empty if not set.
    pub fn list(&self, key: &str) -> &[String] {
        match self.values.get(key) {
            Some((Value::List(items), _)) => items,
            _ => &[],
        }
    }

    /// A number.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.values.get(key) {
            Some((Value::Number(number), _)) => Some(*number),
            _ => None,
        }
    }

    /// Whether a switch is on.
    pub fn switch(&self, key: &str) -> bool {
        matches!(self.values.get(key), Some((Value::Switch(true), _)))
    }

    /// An error about the value of `key`, for checks that the program makes itself.
    pub fn refuse(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        let origin = self.values.get(key).map_or(&Origin::Default, |(_, origin)| origin);
        bad(key, origin, reason)
    }

    /// The settings in force as a TOML file with a comment for each. Reading it gives the same settings.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for setting in self.layers.settings {
            for line in wrap(setting.help, 100) {
                let _ = writeln!(out, "# {line}");
            }
            let _ = writeln!(out, "# Environment: {}", self.layers.variable(setting.key));
            let _ = match self.values.get(setting.key) {
                Some((value, _)) => writeln!(out, "{} = {}\n", setting.key, to_toml(value)),
                None => writeln!(out, "# {} = {}\n", setting.key, placeholder(setting)),
            };
        }
        out
    }
}

fn bad(key: &str, origin: &Origin, reason: impl Into<String>) -> ConfigError {
    ConfigError::BadValue { key: key.to_owned(), origin: origin.to_string(), reason: reason.into() }
}

/// Reads a value as typed in a flag or a variable.
fn read(setting: &Setting, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    Ok(match setting.shape {
        Shape::Text => Value::Text(text.to_owned()),
        Shape::Number => Value::Number(
            text.parse().map_err(|_| bad(setting.key, origin, format!("{text:?} is not a whole number from 0")))?,
        ),
        Shape::Switch => match text {
            "true" | "1" | "yes" | "on" => Value::Switch(true),
            "false" | "0" | "no" | "off" => Value::Switch(false),
            _ => return Err(bad(setting.key, origin, format!("{text:?} is neither true nor false"))),
        },
        Shape::List => {
            Value::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
    })
}

fn from_toml(setting: &Setting, value: toml::Value, origin: &Origin) -> Result<Value, ConfigError> {
    let found = value.type_str();
    let wrong = |expected: &str| bad(setting.key, origin, format!("must be {expected}, is {found}"));
    Ok(match (setting.shape, value) {
        (Shape::Text, toml::Value::String(text)) => Value::Text(text),
        (Shape::Number, toml::Value::Integer(number)) => {
            Value::Number(u64::try_from(number).map_err(|_| bad(setting.key, origin, "must not be negative"))?)
        }
        (Shape::Switch, toml::Value::Boolean(on)) => Value::Switch(on),
        (Shape::List, toml::Value::Array(items)) => Value::List(
            items
                .into_iter()
                .map(|item| match item {
                    toml::Value::String(text) => Ok(text),
                    other => Err(bad(setting.key, origin, format!("must hold texts only, has {}", other.type_str()))),
                })
                .collect::<Result<_, _>>()?,
        ),
        (Shape::Text, _) => return Err(wrong("a text in quotes")),
        (Shape::Number, _) => return Err(wrong("a whole number")),
        (Shape::Switch, _) => return Err(wrong("true or false")),
        (Shape::List, _) => return Err(wrong("a list of texts")),
    })
}

fn to_toml(value: &Value) -> String {
    match value {
        Value::Text(text) => toml::Value::from(text.as_str()).to_string(),
        Value::Number(number) => number.to_string(),
        Value::Switch(on) => on.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| toml::Value::from(item.as_str()).to_string()).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn placeholder(setting: &Setting) -> String {
    match setting.shape {
        Shape::Text => toml::Value::from(setting.example).to_string(),
        Shape::Number | Shape::Switch => setting.example.to_owned(),
        Shape::List => format!("[{}]", toml::Value::from(setting.example)),
    }
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

fn long_help(setting: &Setting) -> String {
    match setting.default.filter(|default| !default.is_empty()) {
        Some(default) => format!("{}\n[default: {default}]", setting.help),
        None => setting.help.to_owned(),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LAYERS: Layers = Layers {
        prefix: "T_",
        settings: &[
            Setting { key: "listen", shape: Shape::Text, default: Some("a"), example: "ADDR", help: "Where. And why." },
            Setting { key: "public-url", shape: Shape::Text, default: None, example: "https://x", help: "Name \"q\"." },
            Setting { key: "disk", shape: Shape::Number, default: Some("7"), example: "BYTES", help: "Space." },
            Setting { key: "dry-run", shape: Shape::Switch, default: Some("false"), example: "true", help: "Dry." },
            Setting { key: "allow", shape: Shape::List, default: Some(""), example: "ORIGIN", help: "Who." },
        ],
    };

    fn load(args: &[&str], env: &[(&str, &str)]) -> Result<Values, ConfigError> {
        let args = std::iter::once("t").chain(args.iter().copied());
        let matches = clap::Command::new("t").args(LAYERS.args()).get_matches_from(args);
        LAYERS.load(&matches, env.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
        let file = file("listen = \"f\"\ndisk = 1\nallow = [\"f\"]\n");
        let path = file.path().to_str().unwrap();
        assert_eq!(load(&[], &[]).unwrap().text("listen"), Some("a"));
        let values = load(&["--config", path], &[]).unwrap();
        assert_eq!((values.text("listen"), values.number("disk")), (Some("f"), Some(1)));
        let values = load(&["--config", path], &[("T_LISTEN", "e"), ("T_ALLOW", "x, y"), ("OTHER", "z")]).unwrap();
        assert_eq!((values.text("listen"), values.list("allow")), (Some("e"), &["x".to_owned(), "y".to_owned()][..]));
        let values = load(&["--listen", "c", "--dry-run", "--allow", "p", "--allow", "q"], &[("T_CONFIG", path)]);
        let values = values.unwrap();
        assert_eq!((values.text("listen"), values.switch("dry-run")), (Some("c"), true));
        assert_eq!(values.list("allow"), ["p", "q"]);
        assert!(!load(&["--dry-run=false"], &[("T_DRY_RUN", "true")]).unwrap().switch("dry-run"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest_one() {
        let file = file("publicurl = \"x\"\n");
        let error = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap_err().to_string();
        assert!(error.contains("`publicurl`") && error.ends_with("did you mean `public-url`?"), "{error}");
        let error = load(&[], &[("T_LISTN", "x")]).unwrap_err().to_string();
        assert!(error.contains("`T_LISTN`") && error.ends_with("did you mean `T_LISTEN`?"), "{error}");
        let error = load(&[], &[("T_WHOLLY_OTHER_THING", "x")]).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_where_it_was_set() {
        for text in ["disk = \"many\"", "disk = -1", "dry-run = 1", "allow = \"x\"", "allow = [1]", "listen = 1"] {
            let file = file(text);
            let error = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap_err().to_string();
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
        }
        let error = load(&[], &[("T_DISK", "x")]).unwrap_err().to_string();
        assert!(error.contains("T_DISK"), "{error}");
        let error = load(&["--listen", "nowhere"], &[]).unwrap();
        let error = error.parse::<std::net::SocketAddr>("listen").unwrap_err().to_string();
        assert!(error.contains("command line") && error.contains("nowhere"), "{error}");
    }

    #[test]
    fn the_printed_file_reads_back_as_the_same_settings() {
        let printed = load(&["--public-url", "https://a\"b\\c", "--allow", "x,y", "--disk", "9"], &[]).unwrap();
        let text = printed.to_toml();
        let file = file(&text);
        let read = load(&["--config", file.path().to_str().unwrap()], &[]).unwrap();
        let plain = |values: &Values| -> Vec<_> { values.values.iter().map(|(k, (v, _))| (*k, v.clone())).collect() };
        assert_eq!(plain(&printed), plain(&read));
        // What is not set is there as a comment that becomes valid by taking the mark away.
        assert!(load(&[], &[]).unwrap().to_toml().contains("# public-url = \"https://x\""));
    }
}
