//! One playlist file: what it names below the same root, and its text with our tags put in or taken out.
//!
//! The operator's file is never changed here: texts come in and texts go out.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    io::Read,
};

use marea_swarm::{
    ids::MAX_PLAYLIST_SIZE,
    playlist::{self, Locator, MediaPlaylist, Playlist},
    tags::{MareaTag, ObjectKind, ObjectTag, PREFIX, Tag},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

use crate::{files, sign};

/// A part of a file: first byte and length, or none for all of it.
pub(crate) type Span = Option<(u64, u64)>;

/// What a path must not contain unescaped in a URL.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}');

/// URLs of the files of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Under which playlists are read: not a real address, but one that references resolve against.
    base: String,
    /// A real address of the same folder, ending in a slash.
    public: Option<String>,
    /// What is named is no file but a path and query of an origin, as a URL has them.
    remote: bool,
}

impl Site {
    /// The folder as it is served: references from the server's top (`/videos/…`) and by its public URL are its own.
    pub(crate) fn served(public_url: Option<&str>) -> Self {
        let public = public_url.map(|url| format!("{}/videos/", url.trim_end_matches('/')));
        Self { base: "http://seeder.invalid/videos/".to_owned(), public, remote: false }
    }

    /// The same, and what lies there is an origin's: another query is another file.
    pub(crate) fn pulled(public_url: Option<&str>) -> Self {
        Self { remote: true, ..Self::served(public_url) }
    }

    /// A folder that will be served nobody knows where: only relative references are its own.
    pub(crate) fn anywhere() -> Self {
        Self { base: "http://folder.invalid/-/somewhere/".to_owned(), public: None, remote: false }
    }

    /// Under which `rel` is read.
    pub(crate) fn url(&self, rel: &str) -> String {
        format!("{}{}", self.base, utf8_percent_encode(rel, PATH))
    }

    /// Path of the URL of `rel` where it is served.
    pub(crate) fn path(&self, rel: &str) -> String {
        format!("/videos/{}", utf8_percent_encode(rel, PATH))
    }

    /// The file that a URL names, if it is in the folder.
    pub(crate) fn file(&self, url: &str) -> Option<String> {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let public = || path.strip_prefix(self.public.as_deref()?);
        let rel = files::relative(path.strip_prefix(&self.base).or_else(public)?)?;
        Some(if self.remote { target(&rel, query) } else { rel })
    }
}

/// Path and query of the URL of `rel` below its folder.
pub(crate) fn target(rel: &str, query: Option<&str>) -> String {
    let path = utf8_percent_encode(rel, PATH);
    query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}"))
}

/// A playlist that was read.
pub(crate) struct Indexed {
    /// Its text without our tags.
    pub(crate) text: String,
    /// What that text says.
    pub(crate) playlist: Playlist,
    /// The `VIDEO` it carried before.
    pub(crate) video: Option<String>,
}

/// Something that is to be hashed and tagged.
pub(crate) struct Item {
    pub(crate) kind: ObjectKind,
    /// Line before which its tag belongs.
    pub(crate) line: usize,
    /// The file that holds it.
    pub(crate) file: String,
    pub(crate) span: Span,
    /// Index of the segment, for segments.
    pub(crate) segment: Option<usize>,
}

impl Item {
    /// A number for its file and its place in it.
    pub(crate) fn name(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.file, self.span).hash(&mut hasher);
        hasher.finish()
    }
}

/// Reads a playlist's text. None if it is too large or not UTF-8.
pub(crate) fn read(file: impl Read) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    file.take(MAX_PLAYLIST_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(if bytes.len() > MAX_PLAYLIST_SIZE { None } else { String::from_utf8(bytes).ok() })
}

/// Indexes the playlist `rel` of `site`. None if it is none that we tag: no HLS, nothing in it, or I-frames only (no
/// player fetches those for playing).
pub(crate) fn index(text: &str, rel: &str, site: &Site) -> Option<Indexed> {
    let url = site.url(rel);
    let resolve = |base: &str, reference: &str| Some(Url::parse(base).ok()?.join(reference).ok()?.to_string());
    let stripped = strip(text);
    let playlist = playlist::parse(&stripped, &url, &resolve).ok()?;
    if stripped.lines().any(|line| line.starts_with("#EXT-X-I-FRAMES-ONLY")) {
        return None;
    }
    let video = text.lines().find_map(|line| match Tag::parse(line.trim()) {
        Some(Ok(Tag::Marea(tag))) => Some(tag.video),
        _ => None,
    });
    Some(Indexed { text: stripped.into_owned(), playlist, video })
}

/// The files of `site` that a multivariant playlist names.
pub(crate) fn children(playlist: &Playlist, site: &Site) -> Vec<String> {
    let Playlist::Multivariant(list) = playlist else { return Vec::new() };
    let variants = list.variants.iter().map(|variant| variant.url.as_str());
    let renditions = list.renditions.iter().filter_map(|rendition| rendition.url.as_deref());
    variants.chain(renditions).filter_map(|url| site.file(url)).collect()
}

/// The objects of a media playlist that lie in `site`.
pub(crate) fn items(list: &MediaPlaylist, site: &Site) -> Vec<Item> {
    let item = |kind, locator: &Locator, line, segment| {
        let span = locator.range.map(|range| (range.start, range.len));
        Some(Item { kind, line, file: site.file(&locator.url)?, span, segment })
    };
    let maps = list.maps.iter().filter_map(|map| item(ObjectKind::Map, &map.locator, map.line, None));
    let segments = list.segments.iter().enumerate().filter(|(_, segment)| !segment.gap);
    let segments =
        segments.filter_map(|(index, segment)| item(ObjectKind::Segment, &segment.locator, segment.line, Some(index)));
    let parts = list.segments.iter().flat_map(|segment| &segment.parts).chain(&list.trailing_parts);
    let parts = parts.filter_map(|part| item(ObjectKind::Part, &part.locator, part.line, None));
    maps.chain(segments).chain(parts).collect()
}

/// `text` without our tags: byte for byte what it was before they were put in.
pub(crate) fn strip(text: &str) -> Cow<'_, str> {
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let text = unsigned(text);
    Cow::Owned(text.split_inclusive('\n').filter(|line| !is_ours(line)).collect())
}

/// `text` without the signature in its last line. Where that line is not ended, neither was the text before it was signed.
pub(crate) fn unsigned(text: &str) -> &str {
    let Some((signed, _)) = sign::split(text) else { return text };
    if text.ends_with('\n') {
        return signed;
    }
    let cut = signed.strip_suffix('\n').unwrap_or(signed);
    cut.strip_suffix('\r').unwrap_or(cut)
}

/// Whether a line is a tag of ours, of whatever version.
fn is_ours(line: &str) -> bool {
    line.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with([':', '-']))
}

/// `text` with the playlist tag and the object tags put in, up to but without line `end`.
///
/// A tag takes the line ending of the line that it stands before, so that [`strip`] gives back every byte.
pub(crate) fn insert(
    text: &str,
    head: MareaTag,
    mut objects: Vec<(usize, ObjectKind, ObjectTag)>,
    end: usize,
) -> String {
    objects.sort_by_key(|(line, ..)| *line);
    let mut objects = objects.into_iter().peekable();
    let mut head = Some(head);
    let mut seen_header = false;
    let mut out = String::with_capacity(text.len() + 64 + 96 * objects.len());
    let whole = if text.contains("\r\n") { "\r\n" } else { "\n" };
    for (number, line) in text.split_inclusive('\n').enumerate().take(end) {
        let ending = match line {
            _ if line.ends_with("\r\n") => "\r\n",
            _ if line.ends_with('\n') => "\n",
            _ => whole,
        };
        let mut put = |tag: Tag| out.extend([tag.to_string().as_str(), ending]);
        if seen_header && let Some(head) = head.take() {
            put(Tag::Marea(head));
        }
        while let Some((_, kind, tag)) = objects.next_if(|(at, ..)| *at == number) {
            put(Tag::Object(kind, tag));
        }
        out.push_str(line);
        seen_header |= line.trim_start_matches('\u{feff}').trim_start().starts_with("#EXTM3U");
    }
    out
}

/// The line after the URI of the segment before segment `index`: where the lines that speak of it begin.
pub(crate) fn first_line(text: &str, list: &MediaPlaylist, index: usize) -> usize {
    let Some(segment) = list.segments.get(index) else { return usize::MAX };
    let before: Vec<&str> = text.split_inclusive('\n').take(segment.line).collect();
    let is_uri = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    before.iter().rposition(is_uri).map_or(segment.line, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use marea_swarm::Root;

    fn tagged(text: &str) -> String {
        let indexed = index(text, "a/b.m3u8", &Site::anywhere()).unwrap();
        let Playlist::Media(list) = &indexed.playlist else { panic!("no media playlist") };
        let tag = ObjectTag { size: 5, root: Root([7; 32]), at: None };
        let objects = items(list, &Site::anywhere()).into_iter().map(|item| (item.line, item.kind, tag)).collect();
        let head = MareaTag { video: "v".to_owned(), signaling: None, complete: true };
        insert(&indexed.text, head, objects, usize::MAX)
    }

    #[test]
    fn tags_come_out_as_they_went_in_for_every_kind_of_line_ending() {
        for text in [
            "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:4,\ns.m4s\n#EXTINF:4,\nt.m4s\n#EXT-X-ENDLIST\n",
            "#EXTM3U\r\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\r\ns.ts\r\n",
            "\u{feff}#EXTM3U\n#EXT-X-TARGETDURATION:4\r\n#EXTINF:4,\ns.ts",
            "\n\n#EXTM3U\n\n#EXTINF:4,\n\ns.ts",
            "#EXTM3U\n#EXTINF:4,",
        ] {
            let once = tagged(text);
            assert_eq!(strip(&once), text);
            assert_eq!(tagged(&once), once, "tagging twice changes nothing");
            let tags = once.lines().filter(|line| is_ours(line)).count();
            assert_eq!(tags, 1 + items_of(text), "{once}");
        }
    }

    fn items_of(text: &str) -> usize {
        text.lines()
            .filter(|line| line.starts_with("#EXT-X-MAP") || (!line.starts_with('#') && line.contains('.')))
            .count()
    }

    #[test]
    fn only_the_folders_own_files_are_named() {
        let served = Site::served(Some("https://edge.example/"));
        assert_eq!(served.file("http://seeder.invalid/videos/a/b%20c.ts?x=1").as_deref(), Some("a/b c.ts"));
        assert_eq!(served.file("https://edge.example/videos/a.ts").as_deref(), Some("a.ts"));
        assert_eq!(served.file("https://other.example/videos/a.ts"), None);
        assert_eq!(served.file("http://seeder.invalid/a.ts"), None);
        assert_eq!(served.file("http://seeder.invalid/videos/%2e%2e/a.ts"), None);
        assert_eq!(served.url("a b/ü?#%.m3u8"), "http://seeder.invalid/videos/a%20b/%C3%BC%3F%23%25.m3u8");
    }
}
