//! Lines, numbers, URLs and variables of a playlist's text.

use std::borrow::Cow;

use super::{ByteRange, PlaylistError, Resolve};
use crate::{
    ids::MAX_PLAYLIST_SIZE,
    map::Map,
    tags::{
        MareaTag, Tag, TagError,
        attributes::{Attributes, integer},
    },
};

/// Most bytes of one URL. Servers refuse longer ones, and variables could make them explode.
const MAX_URL_LEN: usize = 8_192;

/// Most bytes of all URLs and names of one playlist, for the same reason.
const MAX_SPELLED_LEN: usize = 4 * MAX_PLAYLIST_SIZE;

/// Most variables of one playlist.
const MAX_VARIABLES: usize = 1_000;

/// Longest duration that is believed, in milliseconds (eleven days): keeps every sum finite and exact.
const MAX_DURATION_MS: f64 = 1e9;

/// One line that says something.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// A tag of ours.
    Marea(Result<Tag, TagError>),
    /// `#EXT<name>[:<value>]`.
    Tag(&'a str, &'a str),
    /// A URI.
    Uri(&'a str),
}

/// The lines of a text that say something, each with its number: lines end at LF and count from 0.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Line<'_>)> {
    text.split('\n').enumerate().filter_map(|(number, line)| {
        let line = line.trim();
        if line.is_empty() {
            None
        } else if !line.starts_with('#') {
            Some((number, Line::Uri(line)))
        } else if let Some(tag) = Tag::parse(line) {
            Some((number, Line::Marea(tag)))
        } else {
            let tag = quick_m3u8::custom_parsing::tag::parse(line).ok()?.parsed;
            let value = &line[line.len() - tag.value().map_or(0, |value| value.0.len())..];
            Some((number, Line::Tag(tag.name(), value.trim_start())))
        }
    })
}

/// What is the same for both kinds of playlist: base URL, variables, our own tag.
pub(super) struct Context<'a> {
    url: &'a str,
    resolve: &'a Resolve<'a>,
    variables: Map<&'a str, String>,
    /// Bytes of URLs and names so far.
    spelled: usize,
    tag: Option<MareaTag>,
    tag_error: Option<TagError>,
}

impl<'a> Context<'a> {
    pub(super) fn new(url: &'a str, resolve: &'a Resolve<'a>) -> Self {
        Self { url, resolve, variables: Map::new(), spelled: 0, tag: None, tag_error: None }
    }

    /// Takes note of what an `EXT-X-MAREA` says.
    pub(super) fn marea(&mut self, tag: Result<MareaTag, TagError>) {
        match (tag, &self.tag) {
            (Ok(tag), None) => self.tag = Some(tag),
            (Ok(tag), Some(first)) if tag == *first => {}
            (Ok(_), Some(_)) => self.error(TagError::TwoTags),
            (Err(error), _) => self.error(error),
        }
    }

    fn error(&mut self, error: TagError) {
        self.tag_error.get_or_insert(error);
    }

    /// The tag, or why there is none to use: never both.
    pub(super) fn into_tag(self) -> (Option<MareaTag>, Option<TagError>) {
        (self.tag.filter(|_| self.tag_error.is_none()), self.tag_error)
    }

    /// `EXT-X-DEFINE` (RFC 8216bis §4.4.2.3). `IMPORT` stays undefined, since a playlist is read by itself here: what
    /// uses it is not resolved and therefore not exchanged.
    pub(super) fn define(&mut self, list: Attributes<'a>) {
        if self.variables.len() >= MAX_VARIABLES {
            return;
        }
        if let Some(name) = list.get("NAME") {
            if let Some(value) = list.get("VALUE").and_then(|value| self.expand(value)) {
                self.variables.insert(name, value.into_owned());
            }
        } else if let Some(name) = list.get("QUERYPARAM")
            && let Some(value) = query_parameter(self.url, name).filter(|value| value.len() <= MAX_URL_LEN)
        {
            self.variables.insert(name, value);
        }
    }

    /// `text` with its variables (`{$name}`) put in. `None` if one is not defined or the result is too long for a URL.
    fn expand<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        if text.len() > MAX_URL_LEN {
            return None;
        }
        let mut parts = text.split("{$");
        let mut expanded = Cow::Borrowed(parts.next()?);
        for part in parts {
            let (name, after) = part.split_once('}')?;
            let value = self.variables.get(name)?;
            if expanded.len() + value.len() + after.len() > MAX_URL_LEN {
                return None;
            }
            let expanded = expanded.to_mut();
            expanded.push_str(value);
            expanded.push_str(after);
        }
        Some(expanded)
    }

    /// Absolute URL of a reference, without fragment. `Ok(None)` if it has none or one that is too long.
    pub(super) fn url(&mut self, reference: &str) -> Result<Option<String>, PlaylistError> {
        let url = self.expand(reference).and_then(|reference| (self.resolve)(self.url, &reference));
        let Some(mut url) = url.filter(|url| url.len() <= MAX_URL_LEN) else {
            return Ok(None);
        };
        url.truncate(without_fragment(&url).len());
        self.spell(url).map(Some)
    }

    /// A name with its variables put in. `Ok(None)` if that is not possible.
    pub(super) fn name(&mut self, text: &str) -> Result<Option<String>, PlaylistError> {
        self.expand(text).map(Cow::into_owned).map(|name| self.spell(name)).transpose()
    }

    /// Counts what is kept: a few variables could make a small text explode.
    fn spell(&mut self, text: String) -> Result<String, PlaylistError> {
        self.spelled += text.len();
        if self.spelled > MAX_SPELLED_LEN { Err(PlaylistError::TooLarge) } else { Ok(text) }
    }
}

/// A URL without its fragment.
pub(super) fn without_fragment(url: &str) -> &str {
    url.split_once('#').map_or(url, |(before, _)| before)
}

/// A URL (without fragment) without its query.
pub(super) fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(before, _)| before)
}

/// A parameter of a URL's query, as `URLSearchParams` reads it: the first of this name, decoded.
fn query_parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = without_fragment(url).split_once('?')?;
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| percent_decoded(key) == name)
        .map(|(_, value)| percent_decoded(value))
}

/// `%XX` and `+` of a query decoded; what is not UTF-8 afterwards is replaced.
fn percent_decoded(text: &str) -> String {
    let hex = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let byte = match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => *first,
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A duration in seconds, as players read it (digits, a point, digits; whatever follows is dropped), in milliseconds.
///
/// Written out because the standard float parser brings 10 kB of tables into the wasm, and takes `nan` and `1e300`.
pub(super) fn duration_ms(text: &str) -> f64 {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let fraction = rest.strip_prefix('.').unwrap_or("");
    let fraction = &fraction[..digits(fraction)];
    let value = |digits: &str| digits.bytes().fold(0.0, |sum, digit| sum * 10.0 + f64::from(digit - b'0'));
    // Nine digits after the point are a nanosecond.
    let fraction = &fraction[..fraction.len().min(9)];
    let milliseconds = value(whole) * 1_000.0 + value(fraction) * 1_000.0 / 10_f64.powi(fraction.len() as i32);
    milliseconds.min(MAX_DURATION_MS)
}

/// A byte range as a playlist states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatedRange {
    /// The whole resource.
    Whole,
    /// `len[@start]`.
    Part {
        /// Bytes.
        len: u64,
        /// First byte; `None` continues where the range before it ended.
        start: Option<u64>,
    },
    /// Not understood.
    Malformed,
}

impl StatedRange {
    /// Reads `len[@start]`.
    pub(super) fn parse(text: &str) -> Self {
        let (len, start) = match text.split_once('@') {
            Some((len, start)) => (len, Some(start)),
            None => (text, None),
        };
        match (integer(len.trim()), start.map(|start| integer(start.trim()))) {
            (Some(len), None) => Self::Part { len, start: None },
            (Some(len), Some(Some(start))) => Self::Part { len, start: Some(start) },
            _ => Self::Malformed,
        }
    }

    /// The range itself, if it has to continue at byte `next`. `Err` if it is malformed or does not fit into 64 bits.
    pub(super) fn at(self, next: u64) -> Result<Option<ByteRange>, ()> {
        match self {
            Self::Whole => Ok(None),
            Self::Malformed => Err(()),
            Self::Part { len, start } => {
                let start = start.unwrap_or(next);
                start.checked_add(len).ok_or(())?;
                Ok(Some(ByteRange { start, len }))
            }
        }
    }
}
