//! Attribute lists of HLS tags (RFC 8216 §4.2), read as leniently as players do.

/// The text of an attribute list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a str);

impl<'a> Attributes<'a> {
    /// Value of the first attribute of this name, without its quotes.
    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        let mut rest = self.0;
        loop {
            let (attribute, after) = rest.split_once('=')?;
            let value = after.trim_start();
            let (value, after) = match value.strip_prefix('"') {
                // A quote that never closes: the rest of the line is the value.
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => {
                    let end = value.find(',').unwrap_or(value.len());
                    (value[..end].trim_end(), &value[end..])
                }
            };
            // Whatever stands between a closing quote and the comma is dropped.
            let next = after.find(',').map_or("", |comma| &after[comma + 1..]);
            // A stray item without `=` before the attribute is dropped too.
            let attribute = attribute.rsplit(',').next().unwrap_or(attribute);
            if attribute.trim() == name {
                return Some(value);
            }
            rest = next;
        }
    }

    /// The same as a decimal integer.
    pub(crate) fn integer(self, name: &str) -> Option<u64> {
        integer(self.get(name)?)
    }
}

/// A decimal integer: digits and nothing else, up to `u64::MAX`.
pub(crate) fn integer(text: &str) -> Option<u64> {
    // `parse` alone would take a leading plus.
    if text.starts_with('+') { None } else { text.parse().ok() }
}
