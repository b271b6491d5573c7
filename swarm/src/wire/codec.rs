//! Placeholder: bytes of the wire. Owned by the wire author.
use super::{Control, Frame};

/// Bytes of a FRAME header.
pub const FRAME_HEADER_LEN: usize = 24;

/// Why a message is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends too early.
    #[error("message ends at byte {0}")]
    Short(usize),
}

/// Encodes a control message.
pub fn encode_control(_message: &Control) -> Vec<u8> { Vec::new() }

/// Decodes one control message; `Ok(None)` for a type that this version does not know (ignored).
pub fn decode_control(bytes: &[u8]) -> Result<Option<Control>, DecodeError> { Err(DecodeError::Short(bytes.len())) }

/// Encodes a frame header.
pub fn encode_frame(_frame: &Frame) -> [u8; FRAME_HEADER_LEN] { [0; FRAME_HEADER_LEN] }

/// Splits a message of the `data` channel into header and payload (1 to [`super::FRAME_PAYLOAD`] bytes).
pub fn decode_frame(bytes: &[u8]) -> Result<(Frame, &[u8]), DecodeError> { Err(DecodeError::Short(bytes.len())) }
