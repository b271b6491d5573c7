//! What is played: segments with made-up hashes, and the playlists that name them.
//!
//! No media exists. A piece list is drawn at random and merged to its root, so that everything the core checks holds as it
//! would for real bytes. Playlists are real texts: their length counts as server bytes, and the core gets what its own
//! parser reads from them.

use std::{collections::HashMap, rc::Rc};

use marea_swarm::{
    Millis, Root,
    ids::{Oid, piece_count},
    pieces::{Cv, merge},
    playlist::{MediaPlaylist, Playlist, parse},
    tags::{MareaTag, ObjectKind, ObjectTag, Tag},
};

use super::rng::Rng;

/// The video id in the tags.
pub const VIDEO: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const BASE: &str = "https://edge.example/videos/fleet/";

/// What a scenario plays.
#[derive(Clone, Copy, Debug)]
pub struct FilmSpec {
    /// Bits per second of each rendition, lowest first.
    pub bitrates: &'static [f64],
    /// Duration of a segment in milliseconds.
    pub segment_ms: u64,
    /// Segments of a VOD; for live, those that are ever made.
    pub segments: usize,
    /// Segments in the window of a live playlist; `None`: VOD.
    pub window: Option<usize>,
    /// One file per rendition, addressed by byte ranges.
    pub single_file: bool,
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// Bytes.
    pub size: u32,
    /// Chaining values of its pieces; the root alone if it has only one piece.
    pub list: Vec<Cv>,
    root: Root,
    start: u64,
}

impl Segment {
    /// Its name on the wire.
    pub fn oid(&self) -> Oid {
        self.root.oid()
    }
}

/// One state of one playlist.
#[derive(Debug)]
pub struct Listing {
    /// As the core reads it.
    pub playlist: MediaPlaylist,
    /// Bytes of the text with tags.
    pub tagged: u64,
    /// Bytes of the text without.
    pub plain: u64,
    /// Number of its first segment.
    pub first: usize,
    /// One past its last.
    pub end: usize,
}

/// All renditions.
#[derive(Debug)]
pub struct Film {
    /// What it was made from.
    pub spec: FilmSpec,
    /// Segments: rendition by rendition. See [`Film::segment`].
    pub segments: Vec<Segment>,
    listings: HashMap<(usize, usize), Rc<Listing>>,
    oids: HashMap<Oid, usize>,
}

impl Film {
    /// A film whose segment sizes stray by 10 % from the bitrate.
    pub fn new(spec: FilmSpec, rng: &mut Rng) -> Self {
        let mut segments = Vec::new();
        for &bitrate in spec.bitrates {
            let mean = bitrate / 8.0 * spec.segment_ms as f64 / 1000.0;
            let mut start = 0;
            for _ in 0..spec.segments {
                let size = (mean * rng.range(0.9, 1.1)) as u32;
                let list: Vec<Cv> = (0..piece_count(size.into())).map(|_| rng.seed()).collect();
                let root = merge(&list).unwrap_or(Root([0; 32]));
                segments.push(Segment { size, list, root, start });
                start += u64::from(size);
            }
        }
        let oids = segments.iter().enumerate().map(|(place, segment)| (segment.oid(), place)).collect();
        Self { spec, segments, listings: HashMap::new(), oids }
    }

    /// Place of a segment in [`Film::segments`].
    pub fn segment(&self, rendition: usize, index: usize) -> usize {
        rendition * self.spec.segments + index
    }

    /// The segment that has this name on the wire.
    pub fn by_oid(&self, oid: Oid) -> Option<usize> {
        self.oids.get(&oid).copied()
    }

    /// When a live segment is first listed: the stream began so that its window is full at time 0.
    pub fn listed_at(&self, index: usize) -> Millis {
        match self.spec.window {
            Some(window) => (index + 1).saturating_sub(window) as u64 * self.spec.segment_ms,
            None => 0,
        }
    }

    /// One past the last segment that is listed at `now`.
    pub fn edge(&self, now: Millis) -> usize {
        match self.spec.window {
            Some(window) => (window + (now / self.spec.segment_ms) as usize).min(self.spec.segments),
            None => self.spec.segments,
        }
    }

    /// Playlist of a rendition as it is at `now`.
    pub fn listing(&mut self, rendition: usize, now: Millis) -> Rc<Listing> {
        self.listing_at(rendition, self.edge(now))
    }

    /// Playlist of a rendition that ends with segment `end - 1`.
    pub fn listing_at(&mut self, rendition: usize, end: usize) -> Rc<Listing> {
        if let Some(listing) = self.listings.get(&(rendition, end)) {
            return Rc::clone(listing);
        }
        let listing = Rc::new(self.write(rendition, end));
        self.listings.insert((rendition, end), Rc::clone(&listing));
        listing
    }

    fn write(&self, rendition: usize, end: usize) -> Listing {
        let spec = &self.spec;
        let first = spec.window.map_or(0, |window| end.saturating_sub(window));
        let tag = Tag::Marea(MareaTag {
            video: VIDEO.to_owned(),
            signaling: Some("wss://edge.example/signal".to_owned()),
            complete: true,
        });
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n",
            spec.segment_ms.div_ceil(1000)
        );
        let mut tags = 0;
        let add = |text: &mut String, tag: &Tag| {
            let line = format!("{tag}\n");
            text.push_str(&line);
            line.len()
        };
        tags += add(&mut text, &tag);
        let mut at = 0;
        for index in first..end {
            let segment = &self.segments[self.segment(rendition, index)];
            let object =
                ObjectTag { size: segment.size.into(), root: segment.root, at: spec.single_file.then_some(at) };
            at += segment.list.len() as u64 * 32;
            tags += add(&mut text, &Tag::Object(ObjectKind::Segment, object));
            text += &format!("#EXTINF:{:.6},\n", spec.segment_ms as f64 / 1000.0);
            if spec.single_file {
                text += &format!("#EXT-X-BYTERANGE:{}@{}\nr{rendition}.mp4\n", segment.size, segment.start);
            } else {
                text += &format!("r{rendition}-{index:05}.m4s\n");
            }
        }
        if end == spec.segments && spec.window.is_none() {
            text += "#EXT-X-ENDLIST\n";
        }
        let resolve = |_: &str, relative: &str| Some(format!("{BASE}{relative}"));
        let playlist = match parse(&text, &format!("{BASE}r{rendition}.m3u8"), &resolve) {
            Ok(Playlist::Media(playlist)) => playlist,
            other => unreachable!("a media playlist that we wrote is read as {other:?}"),
        };
        let tagged = text.len() as u64;
        Listing { playlist, tagged, plain: tagged - tags as u64, first, end }
    }

    /// Bytes of the multivariant playlist.
    pub fn multivariant_bytes(&self) -> u64 {
        let variants = (0..self.spec.bitrates.len()).map(|rendition| {
            let line = format!(
                "#EXT-X-STREAM-INF:BANDWIDTH={:.0},RESOLUTION=1280x720,CODECS=\"avc1.64001f,mp4a.40.2\"\nr{rendition}.m3u8\n",
                self.spec.bitrates[rendition] * 1.1
            );
            line.len() as u64
        });
        30 + variants.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playlists_name_every_segment_with_its_hash_and_windows_slide() {
        let spec =
            FilmSpec { bitrates: &[2e6, 4e6], segment_ms: 4000, segments: 40, window: Some(6), single_file: false };
        let mut film = Film::new(spec, &mut Rng::new(1));
        let listing = film.listing(1, 8_000);
        assert_eq!((listing.first, listing.end), (2, 8));
        assert_eq!(film.listed_at(7), 8_000);
        let sizes: Vec<u64> = listing.playlist.locators().map(|(_, object)| object.size).collect();
        let expected: Vec<u64> = (2..8).map(|index| film.segments[film.segment(1, index)].size.into()).collect();
        assert_eq!(sizes, expected);
        assert!(listing.tagged > listing.plain + 6 * 60);
    }

    #[test]
    fn byte_ranges_follow_each_other() {
        let spec = FilmSpec { bitrates: &[2e6], segment_ms: 4000, segments: 5, window: None, single_file: true };
        let mut film = Film::new(spec, &mut Rng::new(1));
        let listing = film.listing(0, 0);
        assert!(listing.playlist.ended);
        let mut at = 0;
        for (locator, object) in listing.playlist.locators() {
            let range = locator.range.unwrap();
            assert_eq!((range.start, range.len), (at, object.size));
            at += range.len;
        }
        assert_eq!(listing.playlist.locators().count(), 5);
    }
}
