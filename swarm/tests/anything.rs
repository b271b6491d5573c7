//! Whatever a neighbour says and a host reports, in whatever order: the core does not panic, keeps only pieces of the
//! right hash, and its books balance.

mod bed;

use std::{collections::BTreeMap, sync::LazyLock};

use bed::{VIDEO, World, segment_url};
use marea_swarm::{
    Action, Oid, Swarm,
    config::Config,
    pieces::ObjectHasher,
    playlist::Locator,
    proof::{self, Role},
    swarm::{Fetch, Object, Peer, PeerSetup, Playback, Request},
    wire::{Control, Frame, Hello, PeerKind, PieceSet, decode_control, encode_control},
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Request { segment: usize, start: f64 },
    Cancel(usize),
    Playback(f64),
    Control { peer: u32, message: Control },
    Frame { peer: u32, frame: Frame, len: u32 },
    PeerPiece { peer: u32, request: u32, piece: u32, right: bool },
    FetchPiece { fetch: usize, piece: u32, right: bool },
    FetchEnd(usize),
    FetchOverrun(usize),
    FetchFailed(usize, u16),
    List { fetch: usize, right: bool },
    Checked { check: usize, right: bool },
    Open(u32),
    Closed(u32),
    Wait(u64),
}

fn oid() -> impl Strategy<Value = Oid> {
    prop_oneof![(0..6usize).prop_map(|index| OIDS[index]), any::<[u8; 8]>().prop_map(Oid)]
}

/// What the two films of these tests name.
static OIDS: LazyLock<Vec<Oid>> = LazyLock::new(|| {
    let worlds = [World::vod(3, 300_000), World::digests(3, 300_000)];
    worlds.iter().flat_map(|world| world.playlist.locators()).map(|(_, object)| object.root.oid()).collect()
});

fn control() -> impl Strategy<Value = Control> {
    let pieces = prop_oneof![
        Just(PieceSet::All),
        (0..6u32, proptest::collection::vec(any::<u8>(), 1..3))
            .prop_map(|(first, bits)| PieceSet::Some { first, bits })
    ];
    prop_oneof![
        (any::<bool>(), any::<u32>()).prop_map(|(uploads, uplink)| Control::Status { uploads, uplink }),
        (oid(), pieces).prop_map(|(oid, pieces)| Control::Have { oid, pieces }),
        oid().prop_map(|oid| Control::Drop { oid }),
        (oid(), 0..6u32, 1..6u16, any::<u32>(), any::<u32>(), 0..2u8).prop_map(
            |(oid, first, count, nonce, ttl_ms, hops)| Control::Claim { oid, first, count, nonce, ttl_ms, hops }
        ),
        oid().prop_map(|oid| Control::ListGet { oid }),
        (oid(), 0..5u32, 1..4u32).prop_map(|(oid, first, count)| Control::List {
            oid,
            total: first + count,
            first,
            values: vec![[3; 32]; count as usize]
        }),
        oid().prop_map(|oid| Control::List { oid, total: 0, first: 0, values: Vec::new() }),
        (any::<u32>(), oid(), 0..6u32, 1..6u32, any::<u32>())
            .prop_map(|(id, oid, first, count, deadline_ms)| Control::Request { id, oid, first, count, deadline_ms }),
        (0..10u32).prop_map(|id| Control::Cancel { id }),
        (0..10u32, any::<u32>()).prop_map(|(id, retry_ms)| Control::Busy { id, retry_ms }),
        (any::<u32>(), any::<bool>()).prop_map(|(nonce, reply)| Control::Ping { nonce, reply }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let peer = 0..3u32;
    prop_oneof![
        3 => (0..3usize, 0.0..20_000.0).prop_map(|(segment, start)| Call::Request { segment, start }),
        1 => (0..20usize).prop_map(Call::Cancel),
        1 => (0.0..20_000.0).prop_map(Call::Playback),
        6 => (peer.clone(), control()).prop_map(|(peer, message)| Call::Control { peer, message }),
        3 => (peer.clone(), oid(), 0..12u32, 0..6u32, 0..4u32, 0..20_000u32).prop_map(|(peer, oid, request, piece, n, len)| {
            Call::Frame { peer, frame: Frame { request, oid, piece, offset: n * 16_384 }, len }
        }),
        3 => (peer.clone(), 0..12u32, 0..6u32, any::<bool>())
            .prop_map(|(peer, request, piece, right)| Call::PeerPiece { peer, request, piece, right }),
        4 => (0..8usize, 0..6u32, any::<bool>())
            .prop_map(|(fetch, piece, right)| Call::FetchPiece { fetch, piece, right }),
        2 => (0..8usize).prop_map(Call::FetchEnd),
        1 => (0..8usize).prop_map(Call::FetchOverrun),
        1 => (0..8usize, any::<u16>()).prop_map(|(fetch, status)| Call::FetchFailed(fetch, status)),
        2 => (0..8usize, any::<bool>()).prop_map(|(fetch, right)| Call::List { fetch, right }),
        2 => (0..4usize, any::<bool>()).prop_map(|(check, right)| Call::Checked { check, right }),
        2 => peer.clone().prop_map(Call::Open),
        1 => peer.prop_map(Call::Closed),
        3 => (0..3_000u64).prop_map(Call::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_the_core(digests in any::<bool>(), calls in proptest::collection::vec(call(), 1..120)) {
        let world = if digests { World::digests(3, 300_000) } else { World::vod(3, 300_000) };
        let roots: Vec<_> = world.playlist.locators().map(|(_, object)| object.root).collect();
        let lists: Vec<Vec<[u8; 32]>> = (0..3)
            .map(|index| {
                let mut hasher = ObjectHasher::new();
                hasher.update(&world.server.files[&segment_url(index)]);
                hasher.finish().list
            })
            .collect();
        let mut checks: Vec<(u32, Object)> = Vec::new();
        // A right answer to the latest question about it came.
        let mut proven = [!digests; 3];
        let mut swarm = Swarm::new(VIDEO, PeerKind::Viewer, Config::default(), &[9; 32], 0);
        swarm.joined(0, "me", b"salt", 3);
        swarm.playlist(0, &world.playlist);
        let mut now = 0;
        let mut peers: BTreeMap<u32, Peer> = BTreeMap::new();
        let mut opened = 0;
        let mut fetches: Vec<(Fetch, Object)> = Vec::new();
        let mut kept: BTreeMap<(Object, u32), ()> = BTreeMap::new();
        let mut requests = 0;
        for call in calls {
            let fetch_at = |n: usize| fetches.get(n % fetches.len().max(1)).copied();
            match call {
                Call::Request { segment, start } => {
                    let locator = Locator { url: segment_url(segment), range: None };
                    prop_assert!(swarm.request(now, Request(requests), &locator, start));
                    requests += 1;
                }
                Call::Cancel(n) => swarm.cancel(now, Request(n as u32)),
                Call::Playback(position_ms) => {
                    swarm.playback(now, Playback { position_ms, rate: 1.0, playing: true, ..Playback::default() });
                }
                Call::Control { peer, message } => {
                    if let Some(&peer) = peers.get(&peer) {
                        swarm.control(now, peer, &encode_control(&message));
                    }
                }
                Call::Frame { peer, frame, len } => {
                    if let Some(&peer) = peers.get(&peer) {
                        let _ = swarm.frame(now, peer, &frame, len);
                    }
                }
                Call::PeerPiece { peer, request, piece, right } => {
                    if let Some(&peer) = peers.get(&peer) {
                        let cv = if right { lists[0].get(piece as usize).copied().unwrap_or([0; 32]) } else { [1; 32] };
                        swarm.peer_piece(now, peer, request, piece, cv);
                    }
                }
                Call::FetchPiece { fetch, piece, right } => {
                    if let Some((fetch, object)) = fetch_at(fetch) {
                        let list = &lists[object.0 as usize];
                        let cv = if right { list.get(piece as usize).copied().unwrap_or([0; 32]) } else { [1; 32] };
                        swarm.fetch_progress(now, fetch, 65_536);
                        swarm.fetch_piece(now, fetch, piece.min(list.len() as u32 - 1), cv);
                    }
                }
                Call::FetchEnd(n) => if let Some((fetch, _)) = fetch_at(n) { swarm.fetch_end(now, fetch) },
                Call::FetchOverrun(n) => if let Some((fetch, _)) = fetch_at(n) { swarm.fetch_overrun(now, fetch) },
                Call::FetchFailed(n, status) => {
                    if let Some((fetch, _)) = fetch_at(n) { swarm.fetch_failed(now, fetch, status) }
                }
                Call::List { fetch, right } => if let Some((fetch, object)) = fetch_at(fetch) {
                    let list = if right { lists[object.0 as usize].concat() } else { vec![5; 64] };
                    swarm.list_fetched(now, fetch, Some(&list));
                },
                Call::Checked { check, right } => if let Some(&(check, object)) = checks.get(check) {
                    let index = object.0 as usize;
                    let asked = checks.iter().rfind(|(_, other)| *other == object).map(|(last, _)| *last);
                    proven[index] |= right && asked == Some(check) && kept.keys().any(|(other, _)| *other == object);
                    swarm.checked(now, check, if right { &roots[index].0 } else { &[8; 32] });
                },
                Call::Open(n) => {
                    let peer = Peer(opened);
                    opened += 1;
                    peers.insert(n, peer);
                    let (local, remote) = ([1; 32], [2; 32]);
                    let setup = PeerSetup {
                        id: format!("p{n}"),
                        role: Role::Offerer,
                        local_fingerprint: local,
                        remote_fingerprint: remote,
                    };
                    swarm.peer_open(now, peer, setup);
                    let proof = proof::proof(&proof::swarm_key(VIDEO), Role::Answerer, &[7; 16], &remote, &local);
                    let hello = Hello { versions: (1, 1), kind: PeerKind::Viewer, nonce: [7; 16], proof };
                    swarm.control(now, peer, &encode_control(&Control::Hello(hello)));
                }
                Call::Closed(n) => if let Some(peer) = peers.remove(&n) { swarm.peer_closed(now, peer) },
                Call::Wait(ms) => {
                    now += ms;
                    swarm.timeout(now);
                }
            }
            let mut steps = 0;
            while let Some(action) = swarm.poll_action() {
                steps += 1;
                prop_assert!(steps < 10_000, "the core never rests");
                match action {
                    Action::Fetch { fetch, object, .. } | Action::FetchList { fetch, object, .. } => {
                        fetches.push((fetch, object));
                    }
                    Action::Keep { object, piece, .. } => {
                        prop_assert!(kept.insert((object, piece), ()).is_none(), "kept twice");
                    }
                    Action::Evict { object } => kept.retain(|(other, _), ()| *other != object),
                    Action::Deliver { object, .. } => {
                        let have = kept.keys().filter(|(other, _)| *other == object).count();
                        prop_assert_eq!(have, lists[object.0 as usize].len(), "delivered what is not whole");
                    }
                    Action::Check { object, size, check } => {
                        prop_assert!(digests && !proven[object.0 as usize]);
                        prop_assert_eq!(size, swarm.size(object));
                        let have = kept.keys().filter(|(other, _)| *other == object).count();
                        prop_assert_eq!(have, lists[object.0 as usize].len(), "asked about what is not whole");
                        checks.push((check, object));
                    }
                    Action::SendControl { bytes, .. } => {
                        if let Ok(Some(Control::Have { oid, .. })) = decode_control(&bytes) {
                            let index = roots.iter().position(|root| root.oid() == oid);
                            prop_assert!(index.is_some_and(|index| proven[index]), "announced what nothing proves");
                        }
                    }
                    Action::SendFrame { object, piece, .. } => {
                        prop_assert!(proven[object.0 as usize], "sent what nothing proves");
                        prop_assert!(kept.contains_key(&(object, piece)), "sent what is not verified");
                    }
                    _ => {}
                }
            }
            let held: u64 = kept
                .keys()
                .map(|&(object, piece)| u64::from(marea_swarm::ids::piece_len(swarm.size(object), piece)))
                .sum();
            prop_assert_eq!(held, swarm.memory());
        }
    }
}
