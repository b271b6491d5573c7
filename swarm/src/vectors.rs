//! The golden vectors of `docs/protocol.md`: bytes that every release must still read and write. Native tests and the
//! browser's run the same [`check`].

use data_encoding::HEXLOWER;

use crate::{
    ids::{self, Oid, PIECE_SIZE},
    pieces,
    proof::{self, Role},
    wire::{self, Control, Frame, Hello, PeerKind, PieceSet},
};

/// Lines `name hex`; `#` begins a comment that states the inputs.
pub const WIRE_1: &str = include_str!("../vectors/wire-1.txt");

const VIDEO: &str = "q83vEjRWeJCrze8SNFZ4kA";
const OID: Oid = Oid([0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7]);

/// Checks every vector. Returns how many there are; an error names the vector and what came out instead.
pub fn check() -> Result<usize, String> {
    let stated: Vec<(&str, Vec<u8>)> = WIRE_1
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, hex) = line.split_once(' ').ok_or_else(|| format!("vector line without a value: {line}"))?;
            Ok((name, HEXLOWER.decode(hex.as_bytes()).map_err(|error| format!("vector {name}: {error}"))?))
        })
        .collect::<Result<_, String>>()?;
    let computed = computed();
    if stated.len() != computed.len() {
        return Err(format!("{} vectors are stated, {} are computed", stated.len(), computed.len()));
    }
    for ((name, bytes), (computed_name, computed_bytes)) in stated.iter().zip(&computed) {
        if (name, bytes) != (computed_name, computed_bytes) {
            return Err(format!("vector {name}: computed {computed_name} {}", HEXLOWER.encode(computed_bytes)));
        }
    }
    let bytes_of = |wanted: &str| stated.iter().find(|(name, _)| *name == wanted).map(|(_, bytes)| bytes.as_slice());
    for (name, message) in messages() {
        let decoded = wire::decode_control(bytes_of(name).unwrap_or_default());
        if decoded.as_ref() != Ok(&Some(message)) {
            return Err(format!("vector {name}: decodes to {decoded:?}"));
        }
    }
    let decoded = wire::decode_frame(bytes_of("frame").unwrap_or_default());
    if decoded != Ok((frame(), b"payload".as_slice())) {
        return Err(format!("vector frame: decodes to {decoded:?}"));
    }
    Ok(stated.len())
}

/// What this build makes of the inputs, in the order of the file.
fn computed() -> Vec<(&'static str, Vec<u8>)> {
    let mut out = vec![
        ("announce_id", ids::announce_id(VIDEO).to_vec()),
        ("swarm_key", proof::swarm_key(VIDEO).to_vec()),
        ("proof_offerer", prove(Role::Offerer).to_vec()),
        ("proof_answerer", prove(Role::Answerer).to_vec()),
    ];
    let object: Vec<u8> = (0..150_000u32).map(|at| (at % 251) as u8).collect();
    let list: Vec<_> =
        (0..).zip(object.chunks(PIECE_SIZE as usize)).map(|(at, piece)| pieces::hash_piece(piece, at, 3)).collect();
    out.extend(["piece_0", "piece_1", "piece_2"].into_iter().zip(list.iter().map(|value| value.to_vec())));
    out.push(("root", pieces::merge(&list).map_or_else(Vec::new, |root| root.0.to_vec())));
    out.push(("one_piece", pieces::hash_piece(&object[..1_000], 0, 1).to_vec()));
    out.extend(messages().into_iter().map(|(name, message)| (name, wire::encode_control(&message))));
    out.push(("frame", [&wire::encode_frame(&frame())[..], b"payload"].concat()));
    out
}

/// Offerer: nonce 00…0f, fingerprint 20…3f. Answerer: nonce 10…1f, fingerprint 40…5f.
fn prove(role: Role) -> [u8; 32] {
    let (offerer, answerer) = (run::<32>(0x20), run::<32>(0x40));
    let key = proof::swarm_key(VIDEO);
    match role {
        Role::Offerer => proof::proof(&key, role, &run(0x00), &offerer, &answerer),
        Role::Answerer => proof::proof(&key, role, &run(0x10), &answerer, &offerer),
    }
}

/// `first, first + 1, …`
fn run<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first.wrapping_add(at as u8))
}

fn frame() -> Frame {
    Frame { request: 7, oid: OID, piece: 3, offset: 49_152 }
}

fn messages() -> Vec<(&'static str, Control)> {
    let hello = Hello { versions: (1, 1), kind: PeerKind::Mirror, nonce: run(0), proof: prove(Role::Offerer) };
    let name = || "720p/index.m3u8".to_owned();
    vec![
        ("hello", Control::Hello(hello)),
        ("status", Control::Status { uploads: true, uplink: 1_250_000 }),
        ("have_all", Control::Have { oid: OID, pieces: PieceSet::All }),
        ("have_some", Control::Have { oid: OID, pieces: PieceSet::Some { first: 8, bits: vec![0b0000_0101, 0x80] } }),
        ("drop", Control::Drop { oid: OID }),
        ("claim", Control::Claim { oid: OID, first: 4, count: 4, nonce: 0xdead_beef, ttl_ms: 4_000, hops: 1 }),
        ("unclaim", Control::Unclaim { oid: OID, first: 4, nonce: 0xdead_beef, hops: 0 }),
        ("list_get", Control::ListGet { oid: OID }),
        ("list", Control::List { oid: OID, total: 3, first: 1, values: vec![run(0x20), run(0x40)] }),
        ("list_none", Control::List { oid: OID, total: 0, first: 0, values: Vec::new() }),
        ("request", Control::Request { id: 7, oid: OID, first: 2, count: 2, deadline_ms: 2_500 }),
        ("cancel", Control::Cancel { id: 7 }),
        ("busy", Control::Busy { id: 7, retry_ms: 400 }),
        ("text_get", Control::TextGet { name: name() }),
        ("text", Control::Text { name: name(), total: 8, offset: 0, part: b"#EXTM3U\n".to_vec() }),
        ("text_none", Control::Text { name: name(), total: 0, offset: 0, part: Vec::new() }),
        ("ping", Control::Ping { nonce: 1, reply: false }),
        ("pong", Control::Ping { nonce: 1, reply: true }),
        ("bye", Control::Bye { reason: 0 }),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_golden_vectors_hold() {
        assert_eq!(super::check(), Ok(29));
    }
}
