//! Unpadded base64url (RFC 4648 §5), the only text coding of Marea. General codec crates weigh 20 kB of wasm.

/// The alphabet.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Bytes as text.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..=group.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    out
}

/// Text as bytes. `None` for padding, for other characters, for an impossible length, and for bits beyond the last byte
/// that are not zero: each value has one spelling.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for (at, digit) in group.iter().enumerate() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            bits |= u32::from(value) << (18 - 6 * at);
        }
        let whole = group.len().checked_sub(1).filter(|whole| *whole > 0)?;
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (bytes, rest) = bytes.split_at(whole);
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend_from_slice(bytes);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    #[test]
    fn it_agrees_with_the_reference() {
        let bytes: Vec<u8> = (0..=255u8).flat_map(|byte| [byte, byte.wrapping_mul(83)]).collect();
        for len in 0..bytes.len() {
            let text = encode(&bytes[..len]);
            assert_eq!(text, BASE64URL_NOPAD.encode(&bytes[..len]));
            assert_eq!(decode(&text).as_deref(), Some(&bytes[..len]));
        }
    }

    #[test]
    fn it_refuses_what_is_no_base64url() {
        for text in ["A", "AAAAA", "AA==", "A+AA", "A/AA", "AÄA", "A A", "AB", "AAB"] {
            assert_eq!(decode(text), None, "{text}");
            assert!(BASE64URL_NOPAD.decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
