//! What an origin's playlist names, as it is to be named here: whatever lies below the origin's URL is asked of this server.

use std::borrow::Cow;

use url::Url;

/// Under which the origin's files are seen here: not a real address, but one that references resolve against.
const HERE: &str = "http://seeder.invalid/videos/";

/// `text`, which came from `from`, as it is served at `/videos/{target}`, where `base` is served at `/videos/`. References that
/// mean the same at both places stay as they are, byte for byte.
pub(super) fn rewrite(text: &str, from: &Url, target: &str, base: &Url) -> String {
    let Ok(here) = Url::parse(HERE).and_then(|here| here.join(target)) else { return text.to_owned() };
    let places = Places { from, here, base };
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\r', '\n']);
        let ending = &line[body.len()..];
        let reference = body.trim();
        let new = match () {
            () if reference.is_empty() => Cow::Borrowed(body),
            () if reference.starts_with("#EXT-X-SERVER-CONTROL:") => unblocked(body),
            () if reference.starts_with("#EXT") => places.attributes(body),
            () if reference.starts_with('#') => Cow::Borrowed(body),
            () => places.moved(reference).map_or(Cow::Borrowed(body), Cow::Owned),
        };
        out.push_str(&new);
        out.push_str(ending);
    }
    out
}

/// What of `url` lies below `base`: path and query.
pub(super) fn below<'a>(url: &'a Url, base: &Url) -> Option<&'a str> {
    (url.origin() == base.origin()).then_some(())?;
    url[url::Position::BeforePath..url::Position::AfterQuery].strip_prefix(base.path())
}

struct Places<'a> {
    from: &'a Url,
    here: Url,
    base: &'a Url,
}

impl Places<'_> {
    /// What `reference` has to be here; none if it is right as it is.
    fn moved(&self, reference: &str) -> Option<String> {
        // The value of an `EXT-X-DEFINE` belongs in there.
        if reference.contains("{$") {
            return None;
        }
        let (meant, found) = (self.from.join(reference).ok()?, self.here.join(reference).ok()?);
        match below(&meant, self.base) {
            Some(rest) => {
                let path = format!("/videos/{rest}");
                let same = found.origin() == self.here.origin()
                    && found[url::Position::BeforePath..url::Position::AfterQuery] == path;
                (!same).then_some(path)
            }
            None => (found != meant).then(|| meant.to_string()),
        }
    }

    /// A tag's line with all its `URI` attributes.
    fn attributes<'t>(&self, line: &'t str) -> Cow<'t, str> {
        const NAME: &str = "URI=\"";
        let mut out = String::new();
        let mut rest = line;
        while let Some((before, value)) = rest.split_once(NAME) {
            let Some((value, after)) = value.split_once('"') else { break };
            out.extend([before, NAME, &self.moved(value).unwrap_or_else(|| value.to_owned()), "\""]);
            rest = after;
        }
        if out.is_empty() {
            return Cow::Borrowed(line);
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

/// `EXT-X-SERVER-CONTROL` without the promise to hold an answer back until there is something new: this server does not keep it.
fn unblocked(line: &str) -> Cow<'_, str> {
    let Some((name, list)) = line.split_once(':').filter(|(_, list)| list.contains("CAN-BLOCK-RELOAD")) else {
        return Cow::Borrowed(line);
    };
    let left: Vec<&str> = list.split(',').filter(|item| !item.trim().starts_with("CAN-BLOCK-RELOAD")).collect();
    // A tag with nothing in it is no tag.
    Cow::Owned(if left.is_empty() { "#".to_owned() } else { format!("{name}:{}", left.join(",")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(reference: &str, from: &str) -> String {
        let base = Url::parse("https://o.example/hls/").unwrap();
        let text = rewrite(&format!("#EXTM3U\n{reference}\r\n"), &Url::parse(from).unwrap(), "a/b/i.m3u8", &base);
        text.strip_prefix("#EXTM3U\n").unwrap().strip_suffix("\r\n").unwrap().to_owned()
    }

    #[test]
    fn what_lies_below_the_origin_is_asked_here_and_nothing_else() {
        let plain = "https://o.example/hls/a/b/i.m3u8";
        for (reference, expected) in [
            ("s1.ts", "s1.ts"),
            ("../c/s 1.ts?x=1&y=2", "../c/s 1.ts?x=1&y=2"),
            ("/hls/a/s.ts", "/videos/a/s.ts"),
            ("/other/s.ts", "https://o.example/other/s.ts"),
            ("../../../other/s.ts", "https://o.example/other/s.ts"),
            ("https://o.example/hls/a/s.ts?t=1", "/videos/a/s.ts?t=1"),
            ("http://o.example/hls/a/s.ts", "http://o.example/hls/a/s.ts"),
            ("https://cdn.example/s.ts", "https://cdn.example/s.ts"),
            ("//cdn.example/s.ts", "https://cdn.example/s.ts"),
            ("{$host}/s.ts", "{$host}/s.ts"),
            ("#EXT-X-KEY:METHOD=AES-128,URI=\"/hls/k\",IV=0x1", "#EXT-X-KEY:METHOD=AES-128,URI=\"/videos/k\",IV=0x1"),
            ("#EXT-X-MAP:URI=\"i.mp4\"", "#EXT-X-MAP:URI=\"i.mp4\""),
            (
                "#EXT-X-KEY:METHOD=AES-128,URI=\"data:text/plain,x\"",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"data:text/plain,x\"",
            ),
            (
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0",
                "#EXT-X-SERVER-CONTROL:PART-HOLD-BACK=1.0",
            ),
            ("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES", "#"),
            ("# /hls/a comment", "# /hls/a comment"),
        ] {
            assert_eq!(rewritten(reference, plain), expected);
        }
        // After a redirect relative references mean another place.
        let moved = "https://o.example/hls/v2/i.m3u8";
        assert_eq!(rewritten("s1.ts", moved), "/videos/v2/s1.ts");
        let away = "https://cdn.example/v2/i.m3u8";
        assert_eq!(rewritten("s1.ts", away), "https://cdn.example/v2/s1.ts");
    }
}
