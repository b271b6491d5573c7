//! What signaling relays is hostile: session descriptions and ICE candidates are checked here before a browser or a
//! WebRTC library sees them (design §5). Pure functions; no SDP is built here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::proof::Fingerprint;

/// Longest session description that is read, in bytes.
pub const MAX_SDP_LEN: usize = 16 * 1024;

/// Most candidates taken from one neighbour: those in its description and those that trickle in later.
pub const MAX_CANDIDATES: usize = 20;

/// Most different addresses among them: a description must not make viewers probe other people's hosts.
pub const MAX_ADDRESSES: usize = 4;

/// Longest candidate line, in bytes. Real ones have under 200.
const MAX_CANDIDATE_LEN: usize = 512;

/// Why a session description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`MAX_SDP_LEN`].
    #[error("the SDP has {0} bytes, at most {MAX_SDP_LEN} are allowed")]
    TooLong(usize),
    /// A line is not `<letter>=<printable text>`. Parsers disagree about such lines, so none gets to see them.
    #[error("SDP line {0} is not of the form <letter>=<text>")]
    BadLine(usize),
    /// Not exactly one `m=` section, or one that is not `application`.
    #[error("the SDP has {0} media sections besides or instead of exactly one of type application")]
    Sections(usize),
    /// A fingerprint that is not a SHA-256 one in hex.
    #[error("the fingerprint in SDP line {0} is not 32 bytes of sha-256 in hex")]
    BadFingerprint(usize),
    /// No fingerprint, or two that differ.
    #[error("the SDP names {0} certificate fingerprints, exactly one is allowed")]
    Fingerprints(usize),
}

/// Checks a session description, ours or a neighbour's: at most [`MAX_SDP_LEN`], clean lines, exactly one `m=` section
/// and that of type `application`, exactly one certificate fingerprint and that `sha-256`. Returns the fingerprint.
///
/// The same fingerprint may stand at session and at media level; any other second one, of whatever hash, is refused:
/// WebRTC stacks accept a certificate that fits one of several, and the proof would bind only the other.
pub fn check_sdp(sdp: &str) -> Result<Fingerprint, SdpError> {
    if sdp.len() > MAX_SDP_LEN {
        return Err(SdpError::TooLong(sdp.len()));
    }
    let mut fingerprints: Vec<Fingerprint> = Vec::new();
    let (mut sections, mut applications) = (0, 0);
    for (index, line) in lines(sdp).enumerate() {
        let number = index + 1;
        let (key, value) = split(line).ok_or(SdpError::BadLine(number))?;
        match key {
            'm' => {
                sections += 1;
                applications += usize::from(value.starts_with("application "));
            }
            'a' => {
                if let Some(value) = attribute(value, "fingerprint") {
                    let fingerprint = fingerprint(value).ok_or(SdpError::BadFingerprint(number))?;
                    if !fingerprints.contains(&fingerprint) {
                        fingerprints.push(fingerprint);
                    }
                }
            }
            _ => {}
        }
    }
    if sections != 1 || applications != 1 {
        return Err(SdpError::Sections(sections));
    }
    match fingerprints[..] {
        [fingerprint] => Ok(fingerprint),
        _ => Err(SdpError::Fingerprints(fingerprints.len())),
    }
}

/// Whether a neighbour's candidate (the `candidate` of an `RTCIceCandidateInit`, with or without `a=`) may be tried.
///
/// Literal public addresses and mDNS names pass, and the empty string that ends the list. Private, loopback, link-local
/// and reserved addresses pass only if `near`: signaling saw both sides behind one public address. All other names, and
/// addresses that are no host's, never pass: a viewer's browser is no port scanner.
pub fn candidate_allowed(candidate: &str, near: bool) -> bool {
    candidate.is_empty() || host(candidate).is_some_and(|host| host_allowed(host, near))
}

/// Counts and filters the candidates of one neighbour, in its description and trickled.
#[derive(Clone, Debug)]
pub struct CandidateFilter {
    near: bool,
    taken: usize,
    hosts: Vec<String>,
}

impl CandidateFilter {
    /// A filter for a neighbour; `near` as in [`candidate_allowed`].
    pub fn new(near: bool) -> Self {
        Self { near, taken: 0, hosts: Vec::new() }
    }

    /// Whether this candidate may be tried: [`candidate_allowed`], and neither the [`MAX_CANDIDATES`] nor the
    /// [`MAX_ADDRESSES`] are used up.
    pub fn allow(&mut self, candidate: &str) -> bool {
        if candidate.is_empty() {
            return true;
        }
        let Some(host) = host(candidate).filter(|host| host_allowed(host, self.near)) else { return false };
        let known = self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
        if self.taken == MAX_CANDIDATES || (!known && self.hosts.len() == MAX_ADDRESSES) {
            return false;
        }
        self.taken += 1;
        if !known {
            self.hosts.push(host.to_owned());
        }
        true
    }

    /// The description (that passed [`check_sdp`]) without the candidates that are not allowed. They count like trickled
    /// ones.
    pub fn filter_sdp(&mut self, sdp: &str) -> String {
        let mut out = String::with_capacity(sdp.len().min(MAX_SDP_LEN));
        for line in lines(sdp) {
            let is_candidate = split(line).is_some_and(|(_, value)| attribute(value, "candidate").is_some());
            if !is_candidate || self.allow(line) {
                out.push_str(line);
                out.push_str("\r\n");
            }
        }
        out
    }
}

/// Lines without their ends. A last empty one is left out.
fn lines(sdp: &str) -> impl Iterator<Item = &str> {
    sdp.strip_suffix('\n').unwrap_or(sdp).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

fn split(line: &str) -> Option<(char, &str)> {
    let (key, value) = line.split_once('=')?;
    let clean = |text: &str| !text.chars().any(char::is_control);
    match key.as_bytes() {
        [key @ b'a'..=b'z'] if clean(value) => Some((char::from(*key), value)),
        _ => None,
    }
}

/// The value of an `a=` line if it has this name: in any case, as Firefox reads it.
fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':').unwrap_or((line, ""));
    found.trim().eq_ignore_ascii_case(name).then_some(value)
}

/// `sha-256 AB:CD:…`
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, hex) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut out = [0; 32];
    let mut bytes = hex.split(':');
    for slot in &mut out {
        let byte =
            bytes.next().filter(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *slot = u8::from_str_radix(byte, 16).ok()?;
    }
    bytes.next().is_none().then_some(out)
}

/// The connection address of a well-formed candidate: RFC 8839 §5.1.
fn host(candidate: &str) -> Option<&str> {
    if candidate.len() > MAX_CANDIDATE_LEN || !candidate.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
    let mut words = candidate.split(' ');
    let foundation = words.next()?.strip_prefix("candidate:")?;
    let (component, transport, priority) = (words.next()?, words.next()?, words.next()?);
    let (host, port, typ, kind) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let fits = !foundation.is_empty()
        && component.parse::<u16>().is_ok()
        && ["udp", "tcp"].iter().any(|known| transport.eq_ignore_ascii_case(known))
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && typ == "typ"
        && ["host", "srflx", "prflx", "relay"].contains(&kind)
        && words.all(|word| !word.is_empty());
    fits.then_some(host)
}

fn host_allowed(host: &str, near: bool) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => is_public(address) || (near && is_some_host(address)),
        Err(_) => is_mdns_name(host),
    }
}

/// Browsers hide local addresses behind a random UUID under `.local`. Other names under it are people's printers.
fn is_mdns_name(host: &str) -> bool {
    let Some((label, top)) = host.split_once('.') else { return false };
    let hyphens = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    top.eq_ignore_ascii_case("local")
        && label.len() == 36
        && label.bytes().enumerate().all(|(at, byte)| if hyphens(at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// An address that one machine can have at all.
fn is_some_host(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !(v4.octets()[0] == 0 || v4.is_multicast() || v4.octets()[0] >= 240),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

/// Globally reachable unicast, after the IANA special-purpose registries (RFC 6890). `IpAddr::is_global` is unstable.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!(
            address.octets(),
            [0, ..]
                | [100, 64..=127, ..] // carrier-grade NAT, RFC 6598
                | [192, 0, 0, _]
                | [192, 88, 99, _] // 6to4 relays, RFC 7526
                | [198, 18..=19, ..] // benchmarks, RFC 2544
                | [224..=255, ..]
        );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let special = match segments {
        // Teredo, ORCHID, benchmarks and other protocol assignments; RFC 2928
        [0x2001, 0..=0x01ff, ..] => true,
        // documentation
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => true,
        // 6to4: as reachable as the IPv4 address inside
        [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            !is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        _ => false,
    };
    // Only 2000::/3 is global unicast so far; all else (::1, fc00::/7, fe80::/10, ff00::/8, 64:ff9b::/96) is not.
    segments[0] >> 13 == 1 && !special
}

#[cfg(test)]
mod tests;
