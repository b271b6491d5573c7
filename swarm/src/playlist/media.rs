//! Media playlists.

use super::{
    InitSection, Locator, MediaPlaylist, ObjectRef, Part, PlaylistError, Resolve, Segment,
    text::{Context, Line, StatedRange, duration_ms, lines},
};
use crate::{
    ids::{HashKind, MAX_OBJECT_SIZE, MAX_SEGMENTS, Root},
    map::sort,
    tags::{
        ObjectKind, ObjectTag, Tag, TagError,
        attributes::{Attributes, integer},
    },
};

/// Reads a text that was found to be a media playlist.
pub(super) fn parse(text: &str, url: &str, resolve: &Resolve<'_>) -> Result<MediaPlaylist, PlaylistError> {
    let mut reader = Reader::new(url, resolve);
    for (number, line) in lines(text) {
        match line {
            Line::Marea(tag) => reader.marea(tag),
            Line::Tag(name, value) => reader.tag(name, value, number)?,
            Line::Uri(uri) => reader.segment(uri, number)?,
        }
        if reader.entries > MAX_SEGMENTS {
            return Err(PlaylistError::TooMany);
        }
    }
    Ok(reader.finish())
}

/// State while reading: the playlist so far, and what the lines since the last URI said.
struct Reader<'a> {
    context: Context<'a>,
    playlist: MediaPlaylist,
    /// Segments, parts and init sections so far.
    entries: usize,
    target_duration_ms: Option<f64>,
    tags: [Pending; 3],
    /// Duration, and line of the `EXTINF`.
    inf: Option<(f64, usize)>,
    range: StatedRange,
    discontinuity: bool,
    gap: bool,
    parts: Vec<Part>,
    /// Byte at which a range without a start continues: the end of the segment before, and of the part before in the
    /// same segment. RFC 8216 §4.3.2.2 leaves undefined what follows another URL or no range; this is what hls.js asks
    /// for then.
    after_segment: u64,
    after_part: u64,
}

/// An object tag that waits for what it speaks of.
#[derive(Clone, Copy, Debug, Default)]
enum Pending {
    #[default]
    None,
    One(ObjectTag),
    /// Malformed, or two that differ.
    Unusable,
}

impl<'a> Reader<'a> {
    fn new(url: &'a str, resolve: &'a Resolve<'a>) -> Self {
        Self {
            context: Context::new(url, resolve),
            playlist: MediaPlaylist {
                url: url.to_owned(),
                tag: None,
                tag_error: None,
                unusable_tags: 0,
                target_duration_ms: 0.0,
                media_sequence: 0,
                ended: false,
                skipped: 0,
                segments: Vec::new(),
                maps: Vec::new(),
                trailing_parts: Vec::new(),
            },
            entries: 0,
            target_duration_ms: None,
            tags: [Pending::None; 3],
            inf: None,
            range: StatedRange::Whole,
            discontinuity: false,
            gap: false,
            parts: Vec::new(),
            after_segment: 0,
            after_part: 0,
        }
    }

    fn marea(&mut self, tag: Result<Tag, TagError>) {
        match tag {
            Ok(Tag::Marea(tag)) => self.context.marea(Ok(tag)),
            Ok(Tag::Object(kind, tag)) => {
                let pending = &mut self.tags[kind as usize];
                *pending = match *pending {
                    Pending::None => Pending::One(tag),
                    Pending::One(first) if first == tag => Pending::One(tag),
                    _ => Pending::Unusable,
                };
            }
            Err(TagError::BadObject { kind, .. }) => self.tags[kind as usize] = Pending::Unusable,
            // A signature is checked on the bytes, not here.
            Ok(Tag::Signature(_)) | Err(TagError::BadSignature { .. }) => {}
            Err(error) => self.context.marea(Err(error)),
        }
    }

    fn tag(&mut self, name: &str, value: &'a str, number: usize) -> Result<(), PlaylistError> {
        let list = Attributes(value);
        match name {
            "INF" => self.inf = Some((duration_ms(value), number)),
            "-X-BYTERANGE" => self.range = StatedRange::parse(value),
            "-X-MAP" => self.map(list, number)?,
            "-X-PART" => self.part(list, number)?,
            "-X-DISCONTINUITY" => self.discontinuity = true,
            "-X-GAP" => self.gap = true,
            "-X-TARGETDURATION" => self.target_duration_ms = Some(duration_ms(value)),
            "-X-MEDIA-SEQUENCE" => self.playlist.media_sequence = integer(value).unwrap_or(0),
            "-X-SKIP" => self.playlist.skipped = list.integer("SKIPPED-SEGMENTS").unwrap_or(0),
            "-X-ENDLIST" => self.playlist.ended = true,
            "-X-DEFINE" => self.context.define(list),
            _ => {}
        }
        Ok(())
    }

    fn map(&mut self, list: Attributes<'_>, line: usize) -> Result<(), PlaylistError> {
        let range = list.get("BYTERANGE").map_or(StatedRange::Whole, StatedRange::parse);
        let (locator, object) = self.entry(ObjectKind::Map, list.get("URI"), range, 0, false)?;
        self.playlist.maps.push(InitSection { locator, object, line });
        Ok(())
    }

    fn part(&mut self, list: Attributes<'_>, line: usize) -> Result<(), PlaylistError> {
        let range = list.get("BYTERANGE").map_or(StatedRange::Whole, StatedRange::parse);
        let gap = list.get("GAP") == Some("YES");
        let (locator, object) = self.entry(ObjectKind::Part, list.get("URI"), range, self.after_part, gap)?;
        self.after_part = locator.end();
        let duration_ms = list.get("DURATION").map_or(0.0, duration_ms);
        self.parts.push(Part { locator, duration_ms, object, line });
        Ok(())
    }

    fn segment(&mut self, uri: &str, line: usize) -> Result<(), PlaylistError> {
        let range = std::mem::replace(&mut self.range, StatedRange::Whole);
        let gap = std::mem::take(&mut self.gap);
        let (locator, object) = self.entry(ObjectKind::Segment, Some(uri), range, self.after_segment, gap)?;
        (self.after_segment, self.after_part) = (locator.end(), 0);
        let (duration_ms, line) = self.inf.take().unwrap_or((0.0, line));
        self.playlist.segments.push(Segment {
            msn: 0, // Set in `finish`: EXT-X-MEDIA-SEQUENCE may still come.
            locator,
            start_ms: 0.0,
            duration_ms,
            object,
            map: self.playlist.maps.len().checked_sub(1),
            parts: std::mem::take(&mut self.parts),
            discontinuity: std::mem::take(&mut self.discontinuity),
            gap,
            line,
        });
        Ok(())
    }

    /// Where something is and what its pending tag says. `next` is where a range without a start begins.
    fn entry(
        &mut self,
        kind: ObjectKind,
        uri: Option<&str>,
        range: StatedRange,
        next: u64,
        gap: bool,
    ) -> Result<(Locator, Option<ObjectRef>), PlaylistError> {
        self.entries += 1;
        let url = match uri {
            Some(uri) => self.context.url(uri)?,
            None => None,
        };
        let addressable = url.is_some() && range.at(next).is_ok();
        let locator = Locator { url: url.unwrap_or_default(), range: range.at(next).unwrap_or(None) };
        let object = match std::mem::take(&mut self.tags[kind as usize]) {
            Pending::One(tag) if addressable => object(&tag, &locator),
            Pending::None => return Ok((locator, None)),
            _ => None,
        };
        self.playlist.unusable_tags += u32::from(object.is_none());
        Ok((locator, object.filter(|_| !gap)))
    }

    fn finish(self) -> MediaPlaylist {
        let Self { context, mut playlist, target_duration_ms, parts, .. } = self;
        (playlist.tag, playlist.tag_error) = context.into_tag();
        playlist.trailing_parts = parts;
        let longest = playlist.segments.iter().map(|segment| segment.duration_ms).fold(0.0, f64::max);
        playlist.target_duration_ms = target_duration_ms.unwrap_or(longest);
        playlist.number(playlist.media_sequence.saturating_add(playlist.skipped));
        if playlist.tag.is_none() {
            playlist.objects_mut().for_each(|(_, object)| *object = None);
        }
        playlist.refuse_contradictions();
        playlist
    }
}

/// What a tag says, unless it is beyond the bounds or its byte range says otherwise.
fn object(tag: &ObjectTag, locator: &Locator) -> Option<ObjectRef> {
    let size_fits = locator.range.is_none_or(|range| range.len == tag.size);
    let list_at = tag.at.filter(|_| locator.range.is_some()).unwrap_or(0);
    let usable = (1..=MAX_OBJECT_SIZE).contains(&tag.size) && size_fits;
    usable.then_some(ObjectRef { root: tag.root, kind: HashKind::Blake3, size: tag.size, list_at })
}

impl Locator {
    /// One past the last byte of its range; 0 if it has none.
    fn end(&self) -> u64 {
        self.range.map_or(0, |range| range.start + range.len)
    }
}

impl MediaPlaylist {
    /// Numbers the segments from `first` and lays them end to end.
    pub(super) fn number(&mut self, first: u64) {
        let mut start_ms = 0.0;
        for (msn, segment) in (0..).zip(&mut self.segments) {
            segment.msn = first.saturating_add(msn);
            segment.start_ms = start_ms;
            start_ms += segment.duration_ms;
        }
    }

    /// Everything that it names, in the order of [`MediaPlaylist::entries`].
    fn objects_mut(&mut self) -> impl Iterator<Item = (&Locator, &mut Option<ObjectRef>)> {
        let maps = self.maps.iter_mut().map(|map| (&map.locator, &mut map.object));
        let segments = self.segments.iter_mut().flat_map(|segment| {
            let parts = segment.parts.iter_mut().map(|part| (&part.locator, &mut part.object));
            std::iter::once((&segment.locator, &mut segment.object)).chain(parts)
        });
        let trailing = self.trailing_parts.iter_mut().map(|part| (&part.locator, &mut part.object));
        maps.chain(segments).chain(trailing)
    }

    /// Takes the objects from entries whose tags contradict each other: two roots for one locator (design C4), or two
    /// sizes for one root. At least one of them is wrong and nobody knows which.
    pub(super) fn refuse_contradictions(&mut self) {
        let mut by_locator: Vec<(&Locator, ObjectRef)> =
            self.locators().map(|(locator, object)| (locator, *object)).collect();
        sort(&mut by_locator, |(a, x), (b, y)| (*a, x.root) < (*b, y.root));
        let mut locators: Vec<Locator> = Vec::new(); // in order, as its source is
        for pair in by_locator.windows(2) {
            if pair[0].0 == pair[1].0 && pair[0].1.root != pair[1].1.root {
                locators.push(pair[0].0.clone());
            }
        }
        sort(&mut by_locator, |(_, x), (_, y)| (x.root, x.size) < (y.root, y.size));
        let mut roots: Vec<Root> = Vec::new();
        for pair in by_locator.windows(2) {
            if pair[0].1.root == pair[1].1.root && pair[0].1.size != pair[1].1.size {
                roots.push(pair[0].1.root);
            }
        }
        let mut refused = 0;
        for (locator, object) in self.objects_mut() {
            if object.is_some_and(|object| {
                roots.binary_search(&object.root).is_ok() || locators.binary_search(locator).is_ok()
            }) {
                *object = None;
                refused += 1;
            }
        }
        self.unusable_tags = self.unusable_tags.saturating_add(refused);
    }
}
