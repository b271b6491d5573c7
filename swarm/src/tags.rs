//! Marea's playlist tags (design C4, `docs/protocol.md`), read and written.
//!
//! Players ignore tags that they do not know (RFC 8216 §6.3.1), so these travel in any playlist over any CDN:
//!
//! ```text
//! #EXT-X-MAREA:VERSION=1,PIECE=65536,VIDEO="…"[,SIGNALING="wss://…"][,COMPLETE=NO]     once
//! #EXT-X-MAREA-SEGMENT:SIZE=…,BLAKE3=…[,AT=…]                                          before a segment's EXTINF
//! #EXT-X-MAREA-MAP:…                                                                   before an EXT-X-MAP
//! #EXT-X-MAREA-PART:…                                                                  before an EXT-X-PART
//! #EXT-X-MAREA-SIGNATURE:KEY=…,SEQ=…,EXPIRES=…,SIG=…                                   last line
//! ```
//!
//! Binary values are base64url without padding. Reading is lenient about order, spaces, quotes and unknown attributes;
//! [`Display`](fmt::Display) writes exactly the forms above, without a line end.

pub(crate) mod attributes;

use std::fmt;

use crate::{
    base64url,
    ids::{PIECE_SIZE, Root},
};
use attributes::Attributes;

/// What every tag of ours begins with.
pub const PREFIX: &str = "#EXT-X-MAREA";

/// The tag version that is read and written here.
const VERSION: u64 = 1;

/// Most bytes of a `VIDEO`. Those we write have 22.
const MAX_VIDEO_LEN: usize = 256;

/// Most bytes of a `SIGNALING`.
const MAX_SIGNALING_LEN: usize = 2_048;

/// A line that is one of our tags.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tag {
    /// `EXT-X-MAREA`: the playlist takes part.
    Marea(MareaTag),
    /// `EXT-X-MAREA-SEGMENT`, `-MAP` or `-PART`: the hash of what the next line of that kind names.
    Object(ObjectKind, ObjectTag),
    /// `EXT-X-MAREA-SIGNATURE`: who vouches for all bytes before it.
    Signature(SignatureTag),
}

/// What an object tag speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A media segment.
    Segment,
    /// An init section.
    Map,
    /// A partial segment.
    Part,
}

/// `EXT-X-MAREA` of version 1 with pieces of 64 KiB, the only ones there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MareaTag {
    /// The video id as written: never decoded, not empty. Ours are 16 random bytes in base64url.
    pub video: String,
    /// WebSocket URL of the signaling server. Anybody can write one: the reader decides whether to trust it (design
    /// C2).
    pub signaling: Option<String>,
    /// `false` for `COMPLETE=NO`: some tags are still missing, the playlist is worth reading again.
    pub complete: bool,
}

/// What a tag says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectTag {
    /// Bytes. Not checked here against any bound.
    pub size: u64,
    /// BLAKE3 root.
    pub root: Root,
    /// For byte ranges: byte of the resource's `.pieces` file at which this object's list begins.
    pub at: Option<u64>,
}

/// Fields of `EXT-X-MAREA-SIGNATURE`; nothing is verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureTag {
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// Unix milliseconds at signing.
    pub seq: u64,
    /// Unix milliseconds from which on it no longer counts.
    pub expires: u64,
    /// Ed25519 signature.
    pub signature: [u8; 64],
}

/// Why a tag cannot be used. The playlist plays all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// An attribute of `EXT-X-MAREA` is missing or makes no sense.
    #[error("{attribute} of the {PREFIX} tag is missing or malformed: have the playlist annotated again")]
    BadTags {
        /// Its name.
        attribute: &'static str,
    },
    /// The same of an object tag. Only that one object cannot be exchanged.
    #[error("{attribute} of a {PREFIX}-{} tag is missing or malformed: have the playlist annotated again", kind.name())]
    BadObject {
        /// Which of the three.
        kind: ObjectKind,
        /// The attribute's name.
        attribute: &'static str,
    },
    /// The same of `EXT-X-MAREA-SIGNATURE`.
    #[error("{attribute} of the {PREFIX}-SIGNATURE tag is missing or malformed: have the playlist signed again")]
    BadSignature {
        /// The attribute's name.
        attribute: &'static str,
    },
    /// There are two `EXT-X-MAREA` tags and they differ.
    #[error("the playlist has two {PREFIX} tags that differ: remove one")]
    TwoTags,
    /// A version of the tags that is newer than this reader.
    #[error("{PREFIX} is not of VERSION={VERSION}: this reader is too old for the playlist")]
    PlaylistVersion,
}

impl TagError {
    /// The reason code of design C3: `playlist-version` or `bad-tags`.
    pub fn code(self) -> &'static str {
        match self {
            Self::PlaylistVersion => "playlist-version",
            _ => "bad-tags",
        }
    }
}

impl Tag {
    /// Reads one line (spaces at its end are ignored). `None` if it is none of our tags, also for one of a name that is
    /// not known yet.
    pub fn parse(line: &str) -> Option<Result<Self, TagError>> {
        let (name, list) = line.strip_prefix(PREFIX)?.trim_end().split_once(':')?;
        let list = Attributes(list);
        let object = |kind| match ObjectTag::read(list) {
            Ok(tag) => Ok(Self::Object(kind, tag)),
            Err(attribute) => Err(TagError::BadObject { kind, attribute }),
        };
        Some(match name {
            "" => MareaTag::read(list).map(Self::Marea),
            "-SEGMENT" => object(ObjectKind::Segment),
            "-MAP" => object(ObjectKind::Map),
            "-PART" => object(ObjectKind::Part),
            "-SIGNATURE" => match SignatureTag::read(list) {
                Ok(tag) => Ok(Self::Signature(tag)),
                Err(attribute) => Err(TagError::BadSignature { attribute }),
            },
            _ => return None,
        })
    }
}

impl MareaTag {
    fn read(list: Attributes<'_>) -> Result<Self, TagError> {
        let bad = |attribute| TagError::BadTags { attribute };
        // First of all: in another version nothing else need mean what it means here.
        match list.integer("VERSION").ok_or(bad("VERSION"))? {
            VERSION => {}
            _ => return Err(TagError::PlaylistVersion),
        }
        if list.integer("PIECE") != Some(u64::from(PIECE_SIZE)) {
            return Err(bad("PIECE"));
        }
        let video = list.get("VIDEO").filter(|video| (1..=MAX_VIDEO_LEN).contains(&video.len()));
        Ok(Self {
            video: video.ok_or(bad("VIDEO"))?.to_owned(),
            signaling: list
                .get("SIGNALING")
                .filter(|url| (1..=MAX_SIGNALING_LEN).contains(&url.len()))
                .map(str::to_owned),
            complete: list.get("COMPLETE") != Some("NO"),
        })
    }
}

impl ObjectKind {
    /// What follows [`PREFIX`] and a dash.
    fn name(self) -> &'static str {
        match self {
            Self::Segment => "SEGMENT",
            Self::Map => "MAP",
            Self::Part => "PART",
        }
    }
}

impl ObjectTag {
    /// The error is the name of the attribute that is missing or malformed.
    fn read(list: Attributes<'_>) -> Result<Self, &'static str> {
        Ok(Self {
            size: list.integer("SIZE").ok_or("SIZE")?,
            root: Root(binary(list, "BLAKE3")?),
            at: match list.get("AT") {
                Some(_) => Some(list.integer("AT").ok_or("AT")?),
                None => None,
            },
        })
    }
}

impl SignatureTag {
    /// The error is the name of the attribute that is missing or malformed.
    fn read(list: Attributes<'_>) -> Result<Self, &'static str> {
        Ok(Self {
            key: binary(list, "KEY")?,
            seq: list.integer("SEQ").ok_or("SEQ")?,
            expires: list.integer("EXPIRES").ok_or("EXPIRES")?,
            signature: binary(list, "SIG")?,
        })
    }
}

/// A base64url value of exactly `N` bytes.
fn binary<const N: usize>(list: Attributes<'_>, attribute: &'static str) -> Result<[u8; N], &'static str> {
    list.get(attribute)
        .map(|text| text.trim_end_matches('='))
        .filter(|text| text.len() <= 2 * N) // Nothing is decoded that cannot fit.
        .and_then(base64url::decode)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(attribute)
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        match self {
            Self::Marea(tag) => {
                write!(f, ":VERSION={VERSION},PIECE={PIECE_SIZE},VIDEO=\"{}\"", Quotable(&tag.video))?;
                if let Some(url) = &tag.signaling {
                    write!(f, ",SIGNALING=\"{}\"", Quotable(url))?;
                }
                f.write_str(if tag.complete { "" } else { ",COMPLETE=NO" })
            }
            Self::Object(kind, tag) => {
                write!(f, "-{}:SIZE={},BLAKE3={}", kind.name(), tag.size, base64url::encode(&tag.root.0))?;
                tag.at.map_or(Ok(()), |at| write!(f, ",AT={at}"))
            }
            Self::Signature(tag) => write!(
                f,
                "-SIGNATURE:KEY={},SEQ={},EXPIRES={},SIG={}",
                base64url::encode(&tag.key),
                tag.seq,
                tag.expires,
                base64url::encode(&tag.signature)
            ),
        }
    }
}

/// Text inside quotes: what would end the value or the line is percent-encoded.
struct Quotable<'a>(&'a str);

impl fmt::Display for Quotable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' => f.write_str("%22"),
            '\r' => f.write_str("%0D"),
            '\n' => f.write_str("%0A"),
            c => fmt::Write::write_char(f, c),
        })
    }
}

#[cfg(test)]
mod tests;
