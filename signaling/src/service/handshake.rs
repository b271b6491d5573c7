//! The HTTP side of a WebSocket handshake (RFC 6455 §4.2).

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

/// The server's half of `Sec-WebSocket-Accept` (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Method,
    NoUpgrade,
    Version,
    Key,
    AddressFull,
    Full,
    Draining,
}

impl Refusal {
    /// The label in metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Method | Self::NoUpgrade | Self::Version | Self::Key => "handshake",
            Self::AddressFull => "address-full",
            Self::Full => "full",
            Self::Draining => "draining",
        }
    }

    pub(super) fn response(self) -> Response<Bytes> {
        let (status, text) = match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET\n"),
            Self::NoUpgrade => (StatusCode::UPGRADE_REQUIRED, "this is a WebSocket endpoint\n"),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, "only WebSocket version 13 is spoken here\n"),
            Self::Key => (StatusCode::BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes of base64, once\n"),
            Self::AddressFull => (StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "no room for more connections\n"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, "this server is about to end\n"),
        };
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut add = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
        add(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        match self {
            Self::Method => drop(add(header::ALLOW, "GET")),
            Self::NoUpgrade | Self::Version => {
                add(header::UPGRADE, "websocket");
                add(header::CONNECTION, "upgrade");
                add(header::SEC_WEBSOCKET_VERSION, "13");
            }
            Self::AddressFull | Self::Full | Self::Draining => drop(add(header::RETRY_AFTER, "10")),
            Self::Key => {}
        }
        response
    }
}

/// Checks a handshake and returns the `Sec-WebSocket-Accept` for it.
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    if method != Method::GET {
        return Err(Refusal::Method);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") || !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(Refusal::NoUpgrade);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(Refusal::Version);
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Refusal::Key) };
    if BASE64.decode(key.as_bytes()).map(|bytes| bytes.len()) != Ok(16) {
        return Err(Refusal::Key);
    }
    let mut hash = sha1_smol::Sha1::from(key.as_bytes());
    hash.update(GUID.as_bytes());
    HeaderValue::from_str(&BASE64.encode(&hash.digest().bytes())).map_err(|_| Refusal::Key)
}

/// 101.
pub(super) fn switch(accept: &HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.clone());
    response
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(key: &str) -> HeaderMap {
        let list = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", key),
        ];
        list.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_accept_is_that_of_rfc_6455() {
        let accept = check(&Method::GET, &headers("dGhlIHNhbXBsZSBub25jZQ==")).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let good = headers("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(check(&Method::POST, &good), Err(Refusal::Method));
        for (name, refusal) in [
            ("connection", Refusal::NoUpgrade),
            ("upgrade", Refusal::NoUpgrade),
            ("sec-websocket-version", Refusal::Version),
            ("sec-websocket-key", Refusal::Key),
        ] {
            let mut headers = good.clone();
            headers.remove(name);
            assert_eq!(check(&Method::GET, &headers), Err(refusal));
            headers.insert(name, HeaderValue::from_static("x"));
            assert_eq!(check(&Method::GET, &headers), Err(refusal));
        }
        let mut twice = good.clone();
        twice.append("sec-websocket-key", good["sec-websocket-key"].clone());
        assert_eq!(check(&Method::GET, &twice), Err(Refusal::Key));
    }
}
