//! As much of HTML as finds elements and their attributes. It errs towards seeing too little: comments and the text of
//! scripts are skipped.

/// A start tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// In lower case.
    pub(super) name: String,
    /// Names in lower case.
    attributes: Vec<(String, String)>,
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All start tags, in order.
pub(super) fn elements(html: &str) -> Vec<Element> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end..]);
            continue;
        }
        if !rest.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
            continue;
        }
        let (element, after) = element(rest);
        rest = after;
        if matches!(element.name.as_str(), "script" | "style") {
            let end = format!("</{}", element.name);
            rest = rest.to_ascii_lowercase().find(&end).map_or("", |at| &rest[at..]);
        }
        found.push(element);
    }
    found
}

/// Reads a start tag after its `<`, and gives what follows its `>`.
fn element(text: &str) -> (Element, &str) {
    let ends = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '>' | '/');
    let (name, mut rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    let mut element = Element { name: name.to_ascii_lowercase(), attributes: Vec::new() };
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace() || letter == '/');
        if rest.is_empty() {
            return (element, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (element, after);
        }
        // A stray `=` is the start of a name, so that each turn takes at least one letter.
        let skip = rest.chars().next().map_or(0, char::len_utf8);
        let ends = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '=' | '>' | '/');
        let (name, after) = rest.split_at(rest[skip..].find(ends).map_or(rest.len(), |at| at + skip));
        let (value, after) = match after.trim_start().strip_prefix('=') {
            None => ("", after),
            Some(value) => {
                let value = value.trim_start();
                let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''));
                match quote {
                    Some(quote) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
                    None => {
                        let end = |letter: char| letter.is_ascii_whitespace() || letter == '>';
                        value.split_at(value.find(end).unwrap_or(value.len()))
                    }
                }
            }
        };
        element.attributes.push((name.to_ascii_lowercase(), unescape(value)));
        rest = after;
    }
}

/// The escapes that URLs and JSON in attributes have.
fn unescape(value: &str) -> String {
    let escapes = [("&quot;", "\""), ("&#34;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
    escapes.iter().fold(value.to_owned(), |value, (escape, letter)| value.replace(escape, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_whatever_their_spelling() {
        let html = "<!DOCTYPE html><!-- <video src=no> --><SCRIPT defer SRC='/marea.js' data-x=a>\"<b>\"</script>\
                    <video\n src = \"a.m3u8?x=1&amp;y=2\" controls/><p =x>";
        let found = elements(html);
        let names: Vec<_> = found.iter().map(|element| element.name.as_str()).collect();
        assert_eq!(names, ["script", "video", "p"]);
        assert_eq!(found[0].attribute("src"), Some("/marea.js"));
        assert_eq!(found[0].attribute("defer"), Some(""));
        assert_eq!(found[0].attribute("data-x"), Some("a"));
        assert_eq!(found[1].attribute("src"), Some("a.m3u8?x=1&y=2"));
    }

    #[test]
    fn broken_html_ends() {
        for html in ["<", "<a", "<a b", "<a b=", "<a b='", "<script>", "<!--", "<a =", "<ä ö>", "<a é=é>"] {
            let _ = elements(html);
        }
    }
}
