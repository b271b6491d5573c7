//! The playlist index: what an HLS playlist names, and which object each name stands for.
//!
//! This is no validator. Whatever a player would play is indexed, whatever is not understood is skipped, and nothing in
//! a text can make it fail beyond [`PlaylistError`] or take more memory than its bounds. Numbers are `u64` on every
//! target, since byte ranges beyond 4 GiB are common in single-file packaging.

mod delta;
mod digests;
mod media;
mod multivariant;
mod text;

use crate::{
    ids::{HashKind, MAX_PLAYLIST_SIZE, MAX_SEGMENTS, Root},
    tags::{MareaTag, TagError},
};

/// Turns a reference into an absolute URL: `resolve(base, reference)`, `None` if it is no URL.
///
/// The host brings the URL parser of its platform, so that locators come out spelled as the player will ask for them.
pub type Resolve<'a> = dyn Fn(&str, &str) -> Option<String> + 'a;

/// Part of a resource. `start + len` never overflows in a [`Locator`] that came from a playlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
}

/// Where a player finds an object: what it asks its loader for. Local; never sent to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locator {
    /// Absolute URL without fragment. Empty if the playlist's reference could not be resolved; such an entry never has
    /// an object.
    pub url: String,
    /// The part of it, if the playlist names one.
    pub range: Option<ByteRange>,
}

impl Locator {
    /// URL of the piece list: `.pieces` appended to the path, query kept (design C4). For a byte range it is the list
    /// file of the whole resource, in which this object's list begins at [`ObjectRef::list_at`].
    pub fn list_url(&self) -> String {
        let path = text::without_query(&self.url);
        [path, ".pieces", &self.url[path.len()..]].concat()
    }
}

/// An object that a playlist names with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Its identity.
    pub root: Root,
    /// Which hash that is.
    pub kind: HashKind,
    /// Bytes: 1 to [`crate::ids::MAX_OBJECT_SIZE`], and equal to the length of the byte range if there is one.
    pub size: u64,
    /// Byte of the `.pieces` file at which its list begins: the tag's `AT` for byte ranges, else 0.
    pub list_at: u64,
}

/// A playlist of either kind.
#[derive(Clone, Debug)]
pub enum Playlist {
    /// Lists renditions.
    Multivariant(Multivariant),
    /// Lists segments.
    Media(MediaPlaylist),
}

impl Playlist {
    /// Its `#EXT-X-MAREA`, if it has one that is well-formed.
    pub fn tag(&self) -> Option<&MareaTag> {
        match self {
            Self::Multivariant(list) => list.tag.as_ref(),
            Self::Media(list) => list.tag.as_ref(),
        }
    }
}

/// A multivariant playlist.
#[derive(Clone, Debug)]
pub struct Multivariant {
    /// Its own URL, as given.
    pub url: String,
    /// Its `EXT-X-MAREA` tag.
    pub tag: Option<MareaTag>,
    /// Why its tag, though there, cannot be used.
    pub tag_error: Option<TagError>,
    /// What `EXT-X-STREAM-INF` lists. I-frame playlists are not among them.
    pub variants: Vec<Variant>,
    /// What `EXT-X-MEDIA` lists.
    pub renditions: Vec<Rendition>,
}

/// One `EXT-X-STREAM-INF` with its URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Absolute URL of its media playlist, without fragment.
    pub url: String,
    /// Peak bits per second; 0 if not stated.
    pub bandwidth: u64,
    /// `GROUP-ID` of its audio renditions.
    pub audio: Option<String>,
}

/// One `EXT-X-MEDIA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendition {
    /// Absolute URL of its media playlist, without fragment; `None` if it is muxed into the variants.
    pub url: Option<String>,
    /// What it carries.
    pub kind: RenditionKind,
    /// `GROUP-ID`.
    pub group: String,
    /// `NAME`.
    pub name: String,
}

/// `TYPE` of an `EXT-X-MEDIA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenditionKind {
    /// `AUDIO`.
    Audio,
    /// `VIDEO`.
    Video,
    /// `SUBTITLES`.
    Subtitles,
    /// `CLOSED-CAPTIONS`, and whatever a later edition adds.
    Other,
}

/// A media playlist.
#[derive(Clone, Debug)]
pub struct MediaPlaylist {
    /// Its own URL, as given.
    pub url: String,
    /// Its `EXT-X-MAREA` tag. Without one no entry has an object, until [`MediaPlaylist::add_digests`]; with a
    /// `tag_error` none ever has.
    pub tag: Option<MareaTag>,
    /// Why its tag, though there, cannot be used.
    pub tag_error: Option<TagError>,
    /// Object tags that were not used: malformed, contradicted by a byte range, or by each other.
    pub unusable_tags: u32,
    /// `EXT-X-TARGETDURATION` in milliseconds, or the longest segment if it is not stated.
    pub target_duration_ms: f64,
    /// `EXT-X-MEDIA-SEQUENCE`: number of the first segment, skipped ones included.
    pub media_sequence: u64,
    /// `EXT-X-ENDLIST` was there: nothing more will come.
    pub ended: bool,
    /// Segments left out by `EXT-X-SKIP` before the first listed one; see [`MediaPlaylist::fill_skipped`].
    pub skipped: u64,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// Init sections, one for each `EXT-X-MAP` line, in order.
    pub maps: Vec<InitSection>,
    /// Parts after the last whole segment (low-latency HLS).
    pub trailing_parts: Vec<Part>,
}

/// A media segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Where it is.
    pub locator: Locator,
    /// Start, in milliseconds from the first listed segment: the sum of the durations before it.
    pub start_ms: f64,
    /// Duration in milliseconds: finite, not negative; 0 if `EXTINF` says nothing usable.
    pub duration_ms: f64,
    /// What its tag says, if it may be exchanged.
    pub object: Option<ObjectRef>,
    /// Its init section: index into [`MediaPlaylist::maps`].
    pub map: Option<usize>,
    /// Its parts (low-latency HLS).
    pub parts: Vec<Part>,
    /// It follows an `EXT-X-DISCONTINUITY`.
    pub discontinuity: bool,
    /// `EXT-X-GAP`: it is not there and players do not ask for it.
    pub gap: bool,
    /// Line before which its tag belongs: that of its `EXTINF`, else of its URI. Lines end at LF and count from 0.
    pub line: usize,
}

/// An init section (`EXT-X-MAP`). It holds for the segments that name it, down to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitSection {
    /// Where it is.
    pub locator: Locator,
    /// What its tag says, if it may be exchanged.
    pub object: Option<ObjectRef>,
    /// Line of its `EXT-X-MAP`, before which its tag belongs.
    pub line: usize,
}

/// A partial segment (`EXT-X-PART`).
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Where it is.
    pub locator: Locator,
    /// Duration in milliseconds, as for [`Segment::duration_ms`].
    pub duration_ms: f64,
    /// What its tag says, if it may be exchanged.
    pub object: Option<ObjectRef>,
    /// Line of its `EXT-X-PART`, before which its tag belongs.
    pub line: usize,
}

/// Why a text has no index at all. The player may still make something of it; Marea leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaylistError {
    /// The first line is not `#EXTM3U`: an error page, or no HLS.
    #[error("the first line is not #EXTM3U: this is no HLS playlist")]
    NoHeader,
    /// It lists neither segments nor renditions.
    #[error("the playlist lists neither segments (EXTINF, EXT-X-TARGETDURATION) nor renditions (EXT-X-STREAM-INF)")]
    Nothing,
    /// It, or the URLs that it spells out, are larger than [`MAX_PLAYLIST_SIZE`] allows.
    #[error("the playlist is too large: at most {MAX_PLAYLIST_SIZE} bytes are read")]
    TooLarge,
    /// It lists more than [`MAX_SEGMENTS`] segments, parts or renditions.
    #[error("the playlist lists too much: at most {MAX_SEGMENTS} segments, parts or renditions are read")]
    TooMany,
}

/// Indexes a playlist. `url` is where it came from, after redirects: the base of its references.
///
/// # Errors
/// [`PlaylistError`] if there is nothing to index or it is beyond the bounds.
pub fn parse(text: &str, url: &str, resolve: &Resolve<'_>) -> Result<Playlist, PlaylistError> {
    if text.len() > MAX_PLAYLIST_SIZE {
        return Err(PlaylistError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with("#EXTM3U") {
        return Err(PlaylistError::NoHeader);
    }
    // As hls.js decides it: a media playlist is what has one of these two.
    let is_media = text.lines().any(|line| line.starts_with("#EXTINF") || line.starts_with("#EXT-X-TARGETDURATION"));
    if is_media {
        media::parse(text, url, resolve).map(Playlist::Media)
    } else {
        multivariant::parse(text, url, resolve).map(Playlist::Multivariant)
    }
}

impl MediaPlaylist {
    /// Everything that it names, with what its tag says: init sections, then segments with their parts, then the parts
    /// that trail.
    fn entries(&self) -> impl Iterator<Item = (&Locator, Option<&ObjectRef>)> {
        let maps = self.maps.iter().map(|map| (&map.locator, map.object.as_ref()));
        let segments = self.segments.iter().flat_map(|segment| {
            let parts = segment.parts.iter().map(|part| (&part.locator, part.object.as_ref()));
            std::iter::once((&segment.locator, segment.object.as_ref())).chain(parts)
        });
        let trailing = self.trailing_parts.iter().map(|part| (&part.locator, part.object.as_ref()));
        maps.chain(segments).chain(trailing)
    }

    /// The objects that may be exchanged, with where they are. One locator never has two objects; one object may have
    /// several locators, and one pair may come more than once.
    pub fn locators(&self) -> impl Iterator<Item = (&Locator, &ObjectRef)> {
        self.entries().filter_map(|(locator, object)| Some((locator, object?)))
    }

    /// [`find`] in this playlist alone.
    pub fn find(&self, url: &str, range: Option<ByteRange>) -> Option<&ObjectRef> {
        find(std::iter::once(self), url, range)
    }
}

/// The object that a player's request names: that of exactly this URL and range, else that of the only URL with the
/// same path in all these playlists. So a query that the player adds (a token, CMCD) does no harm, and segments or
/// renditions that differ only in the query stay apart. That needs all playlists of the player at once: one alone may
/// well name a single URL with this path and mean another rendition.
pub fn find<'a>(
    playlists: impl IntoIterator<Item = &'a MediaPlaylist>,
    url: &str,
    range: Option<ByteRange>,
) -> Option<&'a ObjectRef> {
    let url = text::without_fragment(url);
    let path = text::without_query(url);
    let mut only: Option<&str> = None;
    let mut unique = true;
    let mut object = None;
    for (locator, entry) in playlists.into_iter().flat_map(MediaPlaylist::entries) {
        if text::without_query(&locator.url) != path {
            continue;
        }
        if locator.range == range && entry.is_some() {
            if locator.url == url {
                return entry;
            }
            object = entry;
        }
        unique &= only.is_none_or(|only| only == locator.url);
        only = Some(&locator.url);
    }
    object.filter(|_| unique)
}

#[cfg(test)]
mod tests;
