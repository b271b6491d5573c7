//! WebSocket frames (RFC 6455 §5) at the server's end, sans-IO. Our own, since a library's read buffer for each connection is most of
//! what an idle one would weigh: here bytes are read where they came, and only what is not yet whole is kept.

use std::borrow::Cow;

/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;

/// Why a connection is closed (RFC 6455 §7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CloseCode(u16);

impl CloseCode {
    pub(super) const NORMAL: Self = Self(1000);
    pub(super) const GOING_AWAY: Self = Self(1001);
    const PROTOCOL_ERROR: Self = Self(1002);
    const WRONG_TEXT: Self = Self(1007);
    pub(super) const POLICY_VIOLATION: Self = Self(1008);
    const TOO_BIG: Self = Self(1009);

    /// One that may stand in a frame (RFC 6455 §7.4).
    fn read(code: u16) -> Option<Self> {
        let known = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        known.then_some(Self(code))
    }
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// To be answered with this.
    Ping(&'a [u8]),
    Pong,
    Close(Option<CloseCode>),
    /// A part of a message that goes on.
    Part,
}

/// What is no WebSocket, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("the message is too long")]
    TooLong,
    #[error("the text is not UTF-8")]
    NotText,
    #[error("{0}")]
    Frame(&'static str),
}

impl Wrong {
    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::TooLong => CloseCode::TOO_BIG,
            Self::NotText => CloseCode::WRONG_TEXT,
            Self::Frame(_) => CloseCode::PROTOCOL_ERROR,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

impl Kind {
    fn whole(self, payload: Cow<'_, [u8]>) -> Result<Heard<'_>, Wrong> {
        let text = match (self, payload) {
            (Self::Binary, payload) => return Ok(Heard::Binary(payload)),
            (Self::Text, Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            (Self::Text, Cow::Owned(bytes)) => String::from_utf8(bytes).ok().map(Cow::Owned),
        };
        text.map(Heard::Text).ok_or(Wrong::NotText)
    }
}

/// Reads what a client sends.
#[derive(Debug)]
pub(super) struct Frames {
    /// Longest message, in bytes.
    max: usize,
    /// The message that came in parts so far.
    parts: Option<(Kind, Vec<u8>)>,
}

impl Frames {
    pub(super) fn new(max: usize) -> Self {
        Self { max, parts: None }
    }

    /// The frame at the start of `bytes` and its length there; `None` if it is not whole yet.
    pub(super) fn read<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<(usize, Heard<'a>)>, Wrong> {
        let &mut [first, second, ..] = bytes else { return Ok(None) };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(Wrong::Frame("no extension was agreed upon"));
        }
        if second & 0x80 == 0 {
            return Err(Wrong::Frame("a client's frame must be masked"));
        }
        let (length, header) = match (second & 0x7f, &*bytes) {
            (126, &[_, _, a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 4),
            (127, &[_, _, a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 2),
        };
        if (header == 4 && length < 126) || (header == 10 && length <= u64::from(u16::MAX)) {
            return Err(Wrong::Frame("a length is written in more bytes than it takes"));
        }
        // What does not fit is more than any limit.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let control = opcode & 0x8 != 0;
        if control && (length > MAX_CONTROL || !last) {
            return Err(Wrong::Frame("a control frame is too long or in parts"));
        }
        let before = self.parts.as_ref().filter(|_| !control).map_or(0, |(_, parts)| parts.len());
        if length > self.max.saturating_sub(before) {
            return Err(Wrong::TooLong);
        }
        let body = header + 4;
        let Some(frame) = bytes.get_mut(..body + length) else { return Ok(None) };
        let (head, payload) = frame.split_at_mut(body);
        if let &mut [.., a, b, c, d] = head {
            unmask([a, b, c, d], payload);
        }
        Ok(Some((body + length, self.frame(opcode, last, payload)?)))
    }

    fn frame<'a>(&mut self, opcode: u8, last: bool, payload: &'a [u8]) -> Result<Heard<'a>, Wrong> {
        match (opcode, self.parts.take()) {
            (0, Some((kind, mut parts))) => {
                parts.extend_from_slice(payload);
                if last {
                    return kind.whole(Cow::Owned(parts));
                }
                self.parts = Some((kind, parts));
                Ok(Heard::Part)
            }
            (1 | 2, None) => {
                let kind = if opcode == 1 { Kind::Text } else { Kind::Binary };
                if last {
                    return kind.whole(Cow::Borrowed(payload));
                }
                self.parts = Some((kind, payload.to_vec()));
                Ok(Heard::Part)
            }
            (0..=2, _) => Err(Wrong::Frame("a message begins or goes on within another")),
            (opcode, parts) => {
                self.parts = parts;
                match (opcode, payload) {
                    (8, []) => Ok(Heard::Close(None)),
                    (8, &[a, b, ref reason @ ..]) => {
                        let code = CloseCode::read(u16::from_be_bytes([a, b]));
                        let code = code.ok_or(Wrong::Frame("there is no such close code"))?;
                        std::str::from_utf8(reason).map_err(|_| Wrong::NotText)?;
                        Ok(Heard::Close(Some(code)))
                    }
                    (9, payload) => Ok(Heard::Ping(payload)),
                    (10, _) => Ok(Heard::Pong),
                    _ => Err(Wrong::Frame("there is no such frame")),
                }
            }
        }
    }
}

/// In steps of 16 bytes, which compilers turn into one instruction.
fn unmask(mask: [u8; 4], payload: &mut [u8]) {
    let wide: [u8; 16] = std::array::from_fn(|at| mask[at % 4]);
    let mut chunks = payload.chunks_exact_mut(16);
    for chunk in &mut chunks {
        chunk.iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
    }
    chunks.into_remainder().iter_mut().zip(wide).for_each(|(byte, mask)| *byte ^= mask);
}

/// Appends a text message.
pub(super) fn text(payload: &[u8], out: &mut Vec<u8>) {
    write(1, payload, out);
}

/// Appends a ping.
pub(super) fn ping(out: &mut Vec<u8>) {
    write(9, &[], out);
}

/// Appends the answer to a ping.
pub(super) fn pong(payload: &[u8], out: &mut Vec<u8>) {
    write(10, payload, out);
}

/// Appends a close with a reason of at most 123 bytes.
pub(super) fn close(code: Option<CloseCode>, reason: &str, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    if let Some(CloseCode(code)) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(reason.as_bytes());
    }
    write(8, &payload, out);
}

fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 70_000;

    /// As a client writes it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        write(first & 0x0f, payload, &mut plain);
        let header = plain.len() - payload.len();
        let mask = [1, 2, 250, 4];
        let mut frame = vec![first];
        frame.push(plain[1] | 0x80);
        frame.extend_from_slice(&plain[2..header]);
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn only(frame: &[u8]) -> Result<Option<(usize, String)>, Wrong> {
        let mut bytes = frame.to_vec();
        let read = Frames::new(MAX).read(&mut bytes)?;
        Ok(read.map(|(used, heard)| (used, format!("{heard:?}"))))
    }

    #[test]
    fn whole_messages_of_all_lengths_are_read_where_they_lie() {
        for length in [0, 1, 15, 16, 17, 125, 126, 127, 65_535, 65_536, MAX] {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let mut bytes = masked(0x81, text.as_bytes());
            for cut in [1, 2, 3, 5, 9, 13, bytes.len() - 1] {
                assert_eq!(Frames::new(MAX).read(&mut bytes[..cut.min(length + 5)]), Ok(None), "{length} cut at {cut}");
            }
            let whole = bytes.len();
            bytes.extend_from_slice(b"more");
            let read = Frames::new(MAX).read(&mut bytes);
            assert_eq!(read, Ok(Some((whole, Heard::Text(Cow::Borrowed(&text))))));
        }
    }

    #[test]
    fn messages_in_parts_are_put_together_around_control_frames() {
        let mut frames = Frames::new(10);
        let mut read = |first, payload: &[u8]| {
            let mut bytes = masked(first, payload);
            frames.read(&mut bytes).map(|read| format!("{:?}", read.unwrap().1))
        };
        // A character of two bytes, cut in the middle.
        assert_eq!(read(0x01, b"a\xc3"), Ok("Part".into()));
        assert_eq!(read(0x89, b"hi"), Ok(format!("{:?}", Heard::Ping(b"hi"))));
        assert_eq!(read(0x00, b"\xa4"), Ok("Part".into()));
        assert_eq!(read(0x80, b"b"), Ok(format!("{:?}", Heard::Text("aäb".into()))));
        assert_eq!(read(0x02, &[0; 6]), Ok("Part".into()));
        assert_eq!(read(0x80, &[0; 5]), Err(Wrong::TooLong));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut unmasked = Vec::new();
        text(b"x", &mut unmasked);
        for (frame, code) in [
            (unmasked, CloseCode::PROTOCOL_ERROR),
            (masked(0xc1, b""), CloseCode::PROTOCOL_ERROR),
            (masked(0x83, b""), CloseCode::PROTOCOL_ERROR),
            (masked(0x8b, b""), CloseCode::PROTOCOL_ERROR),
            (masked(0x80, b"goes on"), CloseCode::PROTOCOL_ERROR),
            (masked(0x09, b"ping in parts"), CloseCode::PROTOCOL_ERROR),
            (masked(0x89, &[0; 126]), CloseCode::PROTOCOL_ERROR),
            (masked(0x88, b"x"), CloseCode::PROTOCOL_ERROR),
            (masked(0x88, &1005_u16.to_be_bytes()), CloseCode::PROTOCOL_ERROR),
            (masked(0x88, b"\x03\xe8\xff"), CloseCode::WRONG_TEXT),
            (masked(0x81, b"\xff"), CloseCode::WRONG_TEXT),
            (vec![0x81, 0xfe, 0, 125], CloseCode::PROTOCOL_ERROR),
            (vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], CloseCode::PROTOCOL_ERROR),
            (vec![0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], CloseCode::TOO_BIG),
            (masked(0x82, &[0; MAX + 1]), CloseCode::TOO_BIG),
        ] {
            assert_eq!(only(&frame).map_err(Wrong::code), Err(code), "{:?}", &frame[..frame.len().min(10)]);
        }
    }

    #[test]
    fn closes_and_pongs_are_read_and_written() {
        let mut out = Vec::new();
        close(Some(CloseCode::NORMAL), "bye", &mut out);
        assert_eq!(out, b"\x88\x05\x03\xe8bye");
        assert_eq!(only(&masked(0x88, b"\x03\xe8bye")), Ok(Some((11, "Close(Some(CloseCode(1000)))".into()))));
        assert_eq!(only(&masked(0x88, b"")), Ok(Some((6, "Close(None)".into()))));
        assert_eq!(only(&masked(0x8a, b"x")), Ok(Some((7, "Pong".into()))));
        let mut out = Vec::new();
        close(None, "", &mut out);
        pong(b"x", &mut out);
        ping(&mut out);
        assert_eq!(out, b"\x88\x00\x8a\x01x\x89\x00");
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_reader(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut frames = Frames::new(64);
            let mut at = 0;
            while let Ok(Some((used, _))) = frames.read(&mut bytes[at..]) {
                prop_assert!(used > 0);
                at += used;
            }
        }
    }
}
