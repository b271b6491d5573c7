use super::*;

const HEX: &str = "AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:ab";
const UUID: &str = "9f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c5.local";

fn sdp(extra: &str) -> String {
    format!(
        "v=0\r\no=- 46117317 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:Lk6t\r\n\
         a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n{extra}"
    )
}

fn candidate(host: &str) -> String {
    format!("candidate:842163049 1 udp 1677729535 {host} 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0")
}

#[test]
fn one_sha_256_fingerprint_is_found_at_either_level() {
    let media = sdp(&format!("a=fingerprint:sha-256 {HEX}\r\n"));
    assert_eq!(check_sdp(&media), Ok([0xab; 32]));
    let session = media.replace("s=-\r\n", &format!("s=-\r\na=fingerprint:SHA-256 {HEX}\r\n"));
    assert_eq!(check_sdp(&session), Ok([0xab; 32]));
    assert_eq!(check_sdp(&media.replace('\r', "")), Ok([0xab; 32]));
}

#[test]
fn a_second_or_foreign_fingerprint_is_refused() {
    let right = format!("a=fingerprint:sha-256 {HEX}\r\n");
    let other = right.replace("AB:AB", "CD:AB");
    assert_eq!(check_sdp(&sdp("")), Err(SdpError::Fingerprints(0)));
    assert_eq!(check_sdp(&sdp(&format!("{right}{other}"))), Err(SdpError::Fingerprints(2)));
    for bad in ["a=fingerprint:sha-1 AB:CD", "A=x", "a=Fingerprint:sha-512 AB", "a=fingerprint :sha-256 AB"] {
        assert!(check_sdp(&sdp(&format!("{right}{bad}\r\n"))).is_err(), "{bad}");
    }
    for bad in [format!("{HEX}:AB"), HEX[3..].to_owned(), HEX.replacen("AB", "+B", 1), HEX.replacen("AB", "é", 1)] {
        assert!(matches!(check_sdp(&sdp(&format!("a=fingerprint:sha-256 {bad}"))), Err(SdpError::BadFingerprint(12))));
    }
}

#[test]
fn anything_but_one_data_section_is_refused() {
    let right = sdp(&format!("a=fingerprint:sha-256 {HEX}\r\n"));
    assert_eq!(check_sdp(&format!("{right}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n")), Err(SdpError::Sections(2)));
    assert_eq!(check_sdp(&right.replace("m=application", "m=video")), Err(SdpError::Sections(1)));
    assert_eq!(check_sdp(&right.replace("m=application", "b=application")), Err(SdpError::Sections(0)));
    assert_eq!(check_sdp(&format!("{right}{}", "a=x\r\n".repeat(4_000))), Err(SdpError::TooLong(right.len() + 20_000)));
}

#[test]
fn lines_that_parsers_read_differently_are_refused() {
    let right = sdp(&format!("a=fingerprint:sha-256 {HEX}\r\n"));
    for bad in ["\r\n", "a=x\rm=audio\r\n", "a=\0\r\n", " a=x\r\n", "aa=x\r\n", "é=x\r\n", "a\r\n"] {
        assert_eq!(check_sdp(&format!("{right}{bad}")), Err(SdpError::BadLine(13)), "{bad:?}");
    }
}

#[test]
fn public_addresses_and_hidden_ones_pass() {
    for host in ["8.8.8.8", "93.184.216.34", "2a00:1450:4001:80b::200e", "2002:0808:0808::1", UUID] {
        assert!(candidate_allowed(&candidate(host), false), "{host}");
        assert!(candidate_allowed(&format!("a={}", candidate(host)), false), "{host}");
    }
    assert!(candidate_allowed("", false), "the end of candidates");
}

#[test]
fn private_and_reserved_addresses_pass_only_nearby() {
    for host in [
        "10.0.0.1",
        "172.16.3.4",
        "172.31.255.255",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.2.7",
        "203.0.113.9",
        "::1",
        "fe80::1",
        "fc00::1",
        "fdaa::5",
        "::ffff:192.168.1.1",
        "2002:c0a8:0101::1",
        "64:ff9b::a00:1",
        "2001:db8::1",
        "2001::1",
        "fec0::1",
    ] {
        assert!(!candidate_allowed(&candidate(host), false), "{host}");
        assert!(candidate_allowed(&candidate(host), true), "{host}");
    }
}

#[test]
fn what_is_no_host_never_passes() {
    for host in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "ff02::1",
        "::ffff:0.0.0.0",
        "printer.local",
        "example.com",
        "localhost",
        "010.0.0.1",
        "0x7f000001",
        "2130706433",
        "fe80::1%eth0",
        "9f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c5.example.com",
        "9f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c5.local.example.com",
    ] {
        assert!(!candidate_allowed(&candidate(host), true), "{host}");
    }
}

#[test]
fn malformed_candidates_never_pass() {
    let right = candidate("8.8.8.8");
    for (from, to) in [
        ("candidate:", "candidat:"),
        ("udp", "sctp"),
        (" 46154", " 0"),
        (" 46154", " 65536"),
        ("typ", "type"),
        ("srflx", "wonder"),
        (" udp", "  udp"),
        ("generation", "\r\na=x"),
        ("generation", "\u{e9}"),
        ("842163049", ""),
    ] {
        let bad = right.replace(from, to);
        assert_ne!(bad, right);
        assert!(!candidate_allowed(&bad, true), "{bad}");
    }
    assert!(!candidate_allowed(&format!("{right} {}", "x".repeat(512)), true));
    assert!(!candidate_allowed("candidate:1 1 udp 5 8.8.8.8", true));
}

#[test]
fn the_filter_stops_at_four_addresses_and_twenty_candidates() {
    let mut filter = CandidateFilter::new(false);
    assert!(!filter.allow(&candidate("10.0.0.1")), "a refused one does not count");
    for host in ["8.8.8.1", "8.8.8.2", UUID, "8.8.8.3"] {
        assert!(filter.allow(&candidate(host)));
    }
    assert!(!filter.allow(&candidate("8.8.8.4")));
    for _ in 4..MAX_CANDIDATES {
        assert!(filter.allow(&candidate(&UUID.to_uppercase().replace("LOCAL", "local"))));
    }
    assert!(!filter.allow(&candidate("8.8.8.1")));
    assert!(filter.allow(""), "the end is always told");
}

#[test]
fn candidates_inside_a_description_are_filtered_too() {
    let dirty = sdp(&format!(
        "a={}\r\na= candidate:x\r\na=CANDIDATE:1 1 udp 5 10.0.0.1 9 typ host\r\na={}\r\na={}\r\na=end-of-candidates\r\n",
        candidate("192.168.0.7"),
        candidate("8.8.4.4"),
        candidate(UUID),
    ));
    let mut filter = CandidateFilter::new(false);
    let clean = filter.filter_sdp(&dirty);
    assert_eq!(clean, sdp(&format!("a={}\r\na={}\r\na=end-of-candidates\r\n", candidate("8.8.4.4"), candidate(UUID))));
    assert!(filter.allow(&candidate("8.8.4.5")) && filter.allow(&candidate("8.8.4.6")));
    assert!(!filter.allow(&candidate("8.8.4.7")), "those in the description count");
}
