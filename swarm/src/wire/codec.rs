//! Bytes of the wire (`docs/protocol.md`, "Peer wire"). All numbers are big-endian and unsigned.
//!
//! A `control` message is one type byte, three bytes that count the rest, and the rest. The count must fit exactly:
//! a type that is not known yet is told from garbage by it. Every length is checked against the bytes that are there
//! before anything is allocated.

use super::{
    Control, FRAME_PAYLOAD, Frame, Hello, MAX_BITMAP_LEN, MAX_CONTROL_LEN, MAX_HOPS, MAX_LIST_ITEMS, MAX_NAME_LEN,
    MAX_PIECES, MAX_REQUEST_PIECES, MAX_TEXT_PART, PeerKind, PieceSet,
};
use crate::ids::{MAX_PLAYLIST_SIZE, Oid, PIECE_SIZE};

/// Bytes before the body of a control message: type and length.
pub const CONTROL_HEADER_LEN: usize = 4;

/// Bytes of a FRAME header.
pub const FRAME_HEADER_LEN: usize = 24;

const HELLO: u8 = 1;
const STATUS: u8 = 2;
const HAVE: u8 = 3;
const DROP: u8 = 4;
const CLAIM: u8 = 5;
const UNCLAIM: u8 = 6;
const LIST_GET: u8 = 7;
const LIST: u8 = 8;
const REQUEST: u8 = 9;
const CANCEL: u8 = 10;
const BUSY: u8 = 11;
const TEXT_GET: u8 = 12;
const TEXT: u8 = 13;
const PING: u8 = 14;
const BYE: u8 = 15;
const FRAME: u8 = 64;

const ALL: u8 = 0;
const SOME: u8 = 1;

/// Why a message is not one. Each of these is a breach of the protocol: its sender is let go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends before a field that its type has.
    #[error("message ends at byte {at}, {need} more bytes are needed there")]
    Short {
        /// Length of what there is of it.
        at: usize,
        /// Bytes of the field that is cut.
        need: usize,
    },
    /// It goes on behind its last field.
    #[error("{extra} bytes follow the last field")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// It is longer than any message may be, or its length field does not count the rest.
    #[error("message of {actual} bytes says it has {stated}; at most {MAX_CONTROL_LEN} are allowed")]
    Length {
        /// Bytes of the whole message.
        actual: usize,
        /// What its length field makes of it.
        stated: usize,
    },
    /// A field has a value that the protocol forbids.
    #[error("field {field} has the forbidden value {value}")]
    Value {
        /// Its name in `docs/protocol.md`.
        field: &'static str,
        /// What it is.
        value: u64,
    },
    /// A name is not UTF-8.
    #[error("the name is not UTF-8")]
    Utf8,
}

/// Encodes a control message. Fields within the bounds that `docs/protocol.md` states are the caller's duty: a message
/// beyond them is refused by whoever receives it.
pub fn encode_control(message: &Control) -> Vec<u8> {
    let mut out = vec![0; CONTROL_HEADER_LEN];
    out[0] = put_body(message, &mut out);
    let len = u32::try_from(out.len() - CONTROL_HEADER_LEN).unwrap_or(u32::MAX);
    out[1..CONTROL_HEADER_LEN].copy_from_slice(&len.to_be_bytes()[1..]);
    debug_assert_eq!(decode_control(&out).as_ref(), Ok(&Some(message.clone())), "a field is out of bounds");
    out
}

/// Decodes one control message; `Ok(None)` for a well-framed type that this version does not know (to be ignored).
pub fn decode_control(bytes: &[u8]) -> Result<Option<Control>, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let [kind, len @ ..] = reader.array::<CONTROL_HEADER_LEN>()?;
    let stated = CONTROL_HEADER_LEN + u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize;
    if stated != bytes.len() || bytes.len() > MAX_CONTROL_LEN {
        return Err(DecodeError::Length { actual: bytes.len(), stated });
    }
    let message = body(kind, &mut reader)?;
    if message.is_some() {
        reader.end()?;
    }
    Ok(message)
}

/// Encodes a frame header.
pub fn encode_frame(frame: &Frame) -> [u8; FRAME_HEADER_LEN] {
    let mut out = [0; FRAME_HEADER_LEN];
    out[0] = FRAME;
    out[4..8].copy_from_slice(&frame.request.to_be_bytes());
    out[8..16].copy_from_slice(&frame.oid.0);
    out[16..20].copy_from_slice(&frame.piece.to_be_bytes());
    out[20..].copy_from_slice(&frame.offset.to_be_bytes());
    out
}

/// Splits a message of the `data` channel into header and payload (1 to [`FRAME_PAYLOAD`] bytes).
pub fn decode_frame(bytes: &[u8]) -> Result<(Frame, &[u8]), DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let tag = reader.u32()?;
    within("type", tag, tag == u32::from(FRAME) << 24)?;
    let frame = Frame { request: reader.u32()?, oid: reader.oid()?, piece: reader.u32()?, offset: reader.u32()? };
    within("piece", frame.piece, frame.piece < MAX_PIECES)?;
    within("offset", frame.offset, frame.offset < PIECE_SIZE && frame.offset.is_multiple_of(FRAME_PAYLOAD))?;
    let payload = reader.rest();
    within("payload", payload.len(), (1..=FRAME_PAYLOAD as usize).contains(&payload.len()))?;
    Ok((frame, payload))
}

/// Appends the body and returns the type byte.
fn put_body(message: &Control, out: &mut Vec<u8>) -> u8 {
    match message {
        Control::Hello(hello) => {
            out.extend([hello.versions.0, hello.versions.1, kind_to_byte(hello.kind)]);
            out.extend(hello.nonce);
            out.extend(hello.proof);
            HELLO
        }
        Control::Status { uploads, uplink } => {
            out.push(u8::from(*uploads));
            out.extend(uplink.to_be_bytes());
            STATUS
        }
        Control::Have { oid, pieces } => {
            out.extend(oid.0);
            match pieces {
                PieceSet::All => out.push(ALL),
                PieceSet::Some { first, bits } => {
                    out.push(SOME);
                    out.extend(first.to_be_bytes());
                    out.extend(bits);
                }
            }
            HAVE
        }
        Control::Drop { oid } => {
            out.extend(oid.0);
            DROP
        }
        Control::Claim { oid, first, count, nonce, ttl_ms, hops } => {
            out.extend(oid.0);
            out.extend(first.to_be_bytes());
            out.extend(count.to_be_bytes());
            out.extend(nonce.to_be_bytes());
            out.extend(ttl_ms.to_be_bytes());
            out.push(*hops);
            CLAIM
        }
        Control::Unclaim { oid, first, nonce, hops } => {
            out.extend(oid.0);
            out.extend(first.to_be_bytes());
            out.extend(nonce.to_be_bytes());
            out.push(*hops);
            UNCLAIM
        }
        Control::ListGet { oid } => {
            out.extend(oid.0);
            LIST_GET
        }
        Control::List { oid, total, first, values } => {
            out.extend(oid.0);
            out.extend(total.to_be_bytes());
            out.extend(first.to_be_bytes());
            out.extend(values.iter().flatten());
            LIST
        }
        Control::Request { id, oid, first, count, deadline_ms } => {
            out.extend(id.to_be_bytes());
            out.extend(oid.0);
            out.extend(first.to_be_bytes());
            out.extend(count.to_be_bytes());
            out.extend(deadline_ms.to_be_bytes());
            REQUEST
        }
        Control::Cancel { id } => {
            out.extend(id.to_be_bytes());
            CANCEL
        }
        Control::Busy { id, retry_ms } => {
            out.extend(id.to_be_bytes());
            out.extend(retry_ms.to_be_bytes());
            BUSY
        }
        Control::TextGet { name } => {
            put_name(name, out);
            TEXT_GET
        }
        Control::Text { name, total, offset, part } => {
            put_name(name, out);
            out.extend(total.to_be_bytes());
            out.extend(offset.to_be_bytes());
            out.extend(part);
            TEXT
        }
        Control::Ping { nonce, reply } => {
            out.extend(nonce.to_be_bytes());
            out.push(u8::from(*reply));
            PING
        }
        Control::Bye { reason } => {
            out.push(*reason);
            BYE
        }
    }
}

fn body(kind: u8, reader: &mut Reader<'_>) -> Result<Option<Control>, DecodeError> {
    Ok(Some(match kind {
        HELLO => {
            let versions = (reader.u8()?, reader.u8()?);
            within("min_version", versions.0, versions.0 >= 1)?;
            within("max_version", versions.1, versions.0 <= versions.1)?;
            let kind = kind_from_byte(reader.u8()?);
            Control::Hello(Hello { versions, kind, nonce: reader.array()?, proof: reader.array()? })
        }
        STATUS => Control::Status { uploads: reader.bool("uploads")?, uplink: reader.u32()? },
        HAVE => Control::Have { oid: reader.oid()?, pieces: reader.piece_set()? },
        DROP => Control::Drop { oid: reader.oid()? },
        CLAIM => {
            let (oid, first, count) = (reader.oid()?, reader.u32()?, reader.u16()?);
            piece_range(first, u32::from(count))?;
            Control::Claim { oid, first, count, nonce: reader.u32()?, ttl_ms: reader.u32()?, hops: reader.hops()? }
        }
        UNCLAIM => {
            let (oid, first) = (reader.oid()?, reader.u32()?);
            within("first", first, first < MAX_PIECES)?;
            Control::Unclaim { oid, first, nonce: reader.u32()?, hops: reader.hops()? }
        }
        LIST_GET => Control::ListGet { oid: reader.oid()? },
        LIST => {
            let (oid, total, first) = (reader.oid()?, reader.u32()?, reader.u32()?);
            Control::List { oid, total, first, values: reader.list_values(total, first)? }
        }
        REQUEST => {
            let (id, oid, first, count) = (reader.u32()?, reader.oid()?, reader.u32()?, reader.u32()?);
            piece_range(first, count)?;
            within("count", count, count <= MAX_REQUEST_PIECES)?;
            Control::Request { id, oid, first, count, deadline_ms: reader.u32()? }
        }
        CANCEL => Control::Cancel { id: reader.u32()? },
        BUSY => Control::Busy { id: reader.u32()?, retry_ms: reader.u32()? },
        TEXT_GET => Control::TextGet { name: reader.name()? },
        TEXT => {
            let (name, total, offset) = (reader.name()?, reader.u32()?, reader.u32()?);
            within("total", total, total as usize <= MAX_PLAYLIST_SIZE)?;
            let part = reader.rest();
            within("part", part.len(), part.len() <= MAX_TEXT_PART && part.is_empty() == (total == 0))?;
            within("offset", offset, offset as usize + part.len() <= total as usize)?;
            Control::Text { name, total, offset, part: part.to_vec() }
        }
        PING => Control::Ping { nonce: reader.u32()?, reply: reader.bool("reply")? },
        BYE => Control::Bye { reason: reader.u8()? },
        _ => return Ok(None),
    }))
}

fn kind_to_byte(kind: PeerKind) -> u8 {
    match kind {
        PeerKind::Viewer => 0,
        PeerKind::Mirror => 1,
        PeerKind::Edge => 2,
    }
}

/// HELLO comes before a version is agreed on, so a kind of tomorrow must not be an error: it counts as a viewer.
fn kind_from_byte(byte: u8) -> PeerKind {
    match byte {
        1 => PeerKind::Mirror,
        2 => PeerKind::Edge,
        _ => PeerKind::Viewer,
    }
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    out.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(name.as_bytes());
}

/// At least one piece, none beyond the largest object.
fn piece_range(first: u32, count: u32) -> Result<(), DecodeError> {
    within("first", first, first < MAX_PIECES)?;
    within("count", count, (1..=MAX_PIECES - first).contains(&count))
}

fn within(field: &'static str, value: impl TryInto<u64>, fits: bool) -> Result<(), DecodeError> {
    if fits { Ok(()) } else { Err(DecodeError::Value { field, value: value.try_into().unwrap_or(u64::MAX) }) }
}

/// Takes fields from the front of a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let taken = self.bytes[self.at..].get(..len).ok_or(DecodeError::Short { at: self.bytes.len(), need: len })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    fn end(&self) -> Result<(), DecodeError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn oid(&mut self) -> Result<Oid, DecodeError> {
        Ok(Oid(self.array()?))
    }

    fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let byte = self.u8()?;
        within(field, byte, byte <= 1)?;
        Ok(byte == 1)
    }

    fn hops(&mut self) -> Result<u8, DecodeError> {
        let hops = self.u8()?;
        within("hops", hops, hops <= MAX_HOPS)?;
        Ok(hops)
    }

    fn piece_set(&mut self) -> Result<PieceSet, DecodeError> {
        match self.u8()? {
            ALL => Ok(PieceSet::All),
            SOME => {
                let first = self.u32()?;
                within("first", first, first < MAX_PIECES)?;
                let bits = self.rest();
                within("bits", bits.len(), (1..=MAX_BITMAP_LEN).contains(&bits.len()))?;
                let named = bits.iter().rposition(|byte| *byte != 0).map_or(0, |byte| {
                    u32::try_from(byte).unwrap_or(u32::MAX).saturating_mul(8) + 8 - bits[byte].leading_zeros()
                });
                within("bits", u64::from(first) + u64::from(named), named <= MAX_PIECES - first)?;
                Ok(PieceSet::Some { first, bits: bits.to_vec() })
            }
            other => Err(DecodeError::Value { field: "set", value: u64::from(other) }),
        }
    }

    fn list_values(&mut self, total: u32, first: u32) -> Result<Vec<[u8; 32]>, DecodeError> {
        within("total", total, total <= MAX_PIECES)?;
        let (values, cut) = self.rest().as_chunks::<32>();
        if !cut.is_empty() {
            return Err(DecodeError::Short { at: self.bytes.len(), need: 32 });
        }
        within("values", values.len(), values.len() <= MAX_LIST_ITEMS && values.is_empty() == (total == 0))?;
        within("first", first, first as usize + values.len() <= total as usize)?;
        Ok(values.to_vec())
    }

    fn name(&mut self) -> Result<String, DecodeError> {
        let len = self.u16()?;
        within("name", len, usize::from(len) <= MAX_NAME_LEN)?;
        let name = self.take(usize::from(len))?;
        str::from_utf8(name).map(str::to_owned).map_err(|_| DecodeError::Utf8)
    }
}

#[cfg(test)]
mod tests;
