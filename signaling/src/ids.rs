//! The names that travel in messages: announce ids and peer ids.

use std::{borrow::Cow, fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch, from a clock that never goes back.
pub type Millis = u64;

/// What signaling calls a video: 32 bytes derived from the video id (design C6), 43 characters of unpadded base64url.
/// Signaling cannot learn the video id from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnnounceId(pub [u8; 32]);

/// A peer of one video: 16 random bytes given by the server, 22 characters of unpadded base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 16]);

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {bytes} bytes as unpadded base64url")]
pub struct IdError {
    /// Bytes that such an id has.
    pub bytes: usize,
}

impl AnnounceId {
    /// The announce id of a video id as written in the playlist or page: 32 bytes of BLAKE3's `derive_key` with the
    /// context `marea announce 1`.
    pub fn of_video(video: &str) -> Self {
        Self(blake3::derive_key("marea announce 1", video.as_bytes()))
    }
}

macro_rules! text_form {
    ($name:ident, $bytes:literal) => {
        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                let error = IdError { bytes: $bytes };
                if BASE64URL_NOPAD.decode_len(text.len()) != Ok($bytes) {
                    return Err(error);
                }
                BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| error)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                BASE64URL_NOPAD.encode_display(&self.0).fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        // Ids must not reach a log whole.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:02x}{:02x}…)"), self.0[0], self.0[1])
            }
        }
    };
}

text_form!(AnnounceId, 32);
text_form!(PeerId, 16);

/// A socket, as the shard knows it. Never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written_and_nothing_else_is_an_id() {
        let id = AnnounceId([0xfb; 32]);
        assert_eq!(id.to_string().len(), 43);
        assert_eq!(id.to_string().parse(), Ok(id));
        let peer = PeerId([7; 16]);
        assert_eq!(peer.to_string().parse(), Ok(peer));
        let padded = format!("{id}=");
        let plus = id.to_string().replace('-', "+");
        for wrong in ["", "abc", padded.as_str(), plus.as_str(), &id.to_string()[..42], "é".repeat(21).as_str()] {
            assert_eq!(wrong.parse::<AnnounceId>(), Err(IdError { bytes: 32 }), "{wrong}");
        }
    }

    #[test]
    fn the_announce_id_is_that_of_the_protocol() {
        // The vector `announce_id` of docs/protocol.md.
        let id = AnnounceId::of_video("q83vEjRWeJCrze8SNFZ4kA");
        let hex = data_encoding::HEXLOWER.encode(&id.0);
        assert_eq!(hex, "fd847926d2aa1097d5d91978144245c26773fa96a4c4f31dbc197f852e902cf8");
    }

    #[test]
    fn debug_output_does_not_hold_a_whole_id() {
        assert_eq!(format!("{:?}", AnnounceId([0xab; 32])), "AnnounceId(abab…)");
    }
}
