//! Where a client really is: proxies, prefixes, and what may be written in a log.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use http::HeaderMap;

/// Headers that proxies add. Seen from an address that is no trusted proxy, they tell that the address is not the
/// client's.
const FORWARDING_HEADERS: [&str; 4] = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];

/// A client's address, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// The socket's own address: nothing stands between.
    Direct(IpAddr),
    /// From the header of a trusted proxy.
    Forwarded(IpAddr),
    /// Behind a proxy that is not trusted, or one that does not say.
    Unknown,
}

impl ClientAddress {
    /// Finds the address of a request that came over a socket from `peer`.
    ///
    /// A loopback socket whose page is *not* on loopback is a proxy that hides its clients: taking its address would
    /// make all viewers neighbours in one network.
    pub fn of_request(peer: SocketAddr, headers: &HeaderMap, proxies: &[Network]) -> Self {
        let ip = peer.ip().to_canonical();
        if proxies.iter().any(|network| network.contains(ip)) {
            return forwarded_for(headers, proxies).map_or(Self::Unknown, Self::Forwarded);
        }
        if FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name)) {
            return Self::Unknown;
        }
        let origin = headers.get(http::header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
        if ip.is_loopback() && origin.is_some_and(|origin| !is_loopback_origin(origin)) {
            return Self::Unknown;
        }
        Self::Direct(ip)
    }

    /// The address, if it is known.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Direct(ip) | Self::Forwarded(ip) => Some(ip),
            Self::Unknown => None,
        }
    }

    /// Whether this is a program on this machine, not a page and not something behind a proxy.
    pub fn is_direct_loopback(self) -> bool {
        matches!(self, Self::Direct(ip) if ip.is_loopback())
    }
}

/// The last address in `X-Forwarded-For` that is not itself a trusted proxy: everything before it could be made up.
fn forwarded_for(headers: &HeaderMap, proxies: &[Network]) -> Option<IpAddr> {
    let lists: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().ok()).collect::<Option<_>>()?;
    let entries: Vec<&str> = lists.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    for entry in entries.iter().rev() {
        let ip = parse_address(entry)?;
        if !proxies.iter().any(|network| network.contains(ip)) {
            return Some(ip);
        }
    }
    None
}

/// An address with or without a port: some proxies add it.
fn parse_address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(ip.to_canonical())
}

fn is_loopback_origin(origin: &str) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    let host = host_of(authority).unwrap_or_default();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host of `host:port`, in brackets if it is an IPv6 address; `None` if it holds what no host name has.
pub fn host_of(authority: &str) -> Option<&str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => &authority[..rest.find(']')? + 2],
        None => authority.split(':').next()?,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (!host.is_empty() && host.len() <= 253 && host.chars().all(fits)).then_some(host)
}

/// Whether two clients have the same public address, so that private addresses may work between them: the same IPv4
/// address, the same IPv6 /64, or both on this machine.
pub fn near(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        _ if a.is_loopback() || b.is_loopback() => a.is_loopback() && b.is_loopback(),
        (IpAddr::V4(a), IpAddr::V4(b)) => a == b,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}

/// The part of an address that one subscriber has: the whole IPv4 address, the /64 of an IPv6 one. Limits count by it.
pub fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6(masked(ip, 64)),
    }
}

/// The network that an address is in, for matching: IPv4 /24, IPv6 /48.
pub fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00)),
        IpAddr::V6(ip) => IpAddr::V6(masked(ip, 48)),
    }
}

fn masked(ip: Ipv6Addr, bits: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - bits)))
}

/// An address as it may be written in a log: its network only.
pub struct Redacted(pub IpAddr);

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.0.is_ipv4() { 24 } else { 48 };
        write!(f, "{}/{bits}", prefix(self.0))
    }
}

/// An address or a network, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// IPv4 as IPv4-mapped IPv6.
    bits: u128,
    length: u32,
}

impl Network {
    /// Whether the address is in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.length == 0 || (wide(ip) ^ self.bits) >> (128 - self.length) == 0
    }
}

fn wide(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// A text that is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address such as 10.0.0.1 or a network such as 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| NetworkError)?)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let (most, offset) = if ip.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = length.unwrap_or(most);
        if length > most {
            return Err(NetworkError);
        }
        Ok(Self { bits: wide(ip), length: length + offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn of(peer: &str, list: &[(&'static str, &str)]) -> ClientAddress {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()];
        ClientAddress::of_request(peer.parse().unwrap(), &headers(list), &proxies)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_header_counts_only_from_a_trusted_proxy_and_only_its_last_foreign_entry() {
        let direct = of("203.0.113.9:1", &[]);
        assert_eq!(direct, ClientAddress::Direct(ip("203.0.113.9")));
        let list = [("x-forwarded-for", "1.2.3.4, 198.51.100.7, 10.0.0.3")];
        assert_eq!(of("10.0.0.2:1", &list), ClientAddress::Forwarded(ip("198.51.100.7")));
        assert_eq!(of("203.0.113.9:1", &list), ClientAddress::Unknown);
        assert_eq!(of("10.0.0.2:1", &[]), ClientAddress::Unknown);
        assert_eq!(of("10.0.0.2:1", &[("x-forwarded-for", "1.2.3.4, junk")]), ClientAddress::Unknown);
        let list = [("x-forwarded-for", "[2001:db8::5]:4711")];
        assert_eq!(of("[fd00::1]:1", &list), ClientAddress::Forwarded(ip("2001:db8::5")));
    }

    #[test]
    fn a_silent_proxy_on_this_machine_is_not_taken_for_the_client() {
        assert!(of("127.0.0.1:1", &[]).is_direct_loopback());
        assert!(of("[::ffff:127.0.0.1]:1", &[("origin", "http://127.0.0.1:8080")]).is_direct_loopback());
        assert!(of("[::1]:1", &[("origin", "http://tide.localhost:8080")]).is_direct_loopback());
        assert_eq!(of("127.0.0.1:1", &[("origin", "https://video.example")]), ClientAddress::Unknown);
        assert_eq!(of("127.0.0.1:1", &[("via", "1.1 x")]), ClientAddress::Unknown);
    }

    #[test]
    fn near_means_one_public_address() {
        for (a, b, expected) in [
            ("198.51.100.7", "198.51.100.7", true),
            ("198.51.100.7", "198.51.100.8", false),
            ("2001:db8:1:2::3", "2001:db8:1:2:ffff::9", true),
            ("2001:db8:1:2::3", "2001:db8:1:3::3", false),
            ("127.0.0.1", "::1", true),
            ("127.0.0.1", "198.51.100.7", false),
            ("198.51.100.7", "2001:db8::1", false),
        ] {
            assert_eq!(near(ip(a), ip(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn logs_show_networks_only() {
        assert_eq!(Redacted(ip("198.51.100.7")).to_string(), "198.51.100.0/24");
        assert_eq!(Redacted(ip("2001:db8:1:2::3")).to_string(), "2001:db8:1::/48");
    }

    #[test]
    fn networks_hold_what_they_name() {
        let network: Network = "192.168.0.0/16".parse().unwrap();
        assert!(network.contains(ip("192.168.3.4")) && !network.contains(ip("192.169.3.4")));
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains(ip("8.8.8.8")));
        assert!("::/0".parse::<Network>().unwrap().contains(ip("8.8.8.8")));
        for wrong in ["", "x", "10.0.0.0/33", "::/129", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_taken_from_an_authority_or_refused() {
        assert_eq!(host_of("a.example:80"), Some("a.example"));
        assert_eq!(host_of("[::1]:80"), Some("[::1]"));
        for wrong in ["", ":80", "a b", "a\"b", "[::1", "é"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }
}
