//! Native peers among themselves, over real signaling and real WebRTC: the wire works, and each lie is seen through.

use std::{fs, net::Ipv4Addr, path::Path, time::Duration};

use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use marea_signaling::{Settings, Signaling};
use marea_swarm::wire::PeerKind;
use marea_tests::native::{Event, Library, Options, Peer, Script};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::timeout};

/// Longest wait for one event: handshakes take a second, a full machine ten.
const PATIENCE: Duration = Duration::from_secs(60);

/// Signaling and a folder of media.
struct Bed {
    signaling: String,
    library: Library,
    _folder: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_media(folder.path());
        let library = Library::load(folder.path()).unwrap();
        Self { signaling: start_signaling().await, library, _folder: folder }
    }

    /// Starts a peer and waits until signaling has taken it in.
    async fn peer(&self, script: Script, fetch: bool) -> Running {
        let options = Options {
            signaling: self.signaling.clone(),
            video: "q83vEjRWeJCrze8SNFZ4kA".to_owned(),
            kind: PeerKind::Viewer,
            script,
            fetch,
            origin: None,
            address: Ipv4Addr::LOCALHOST.into(),
            want: 10,
        };
        let mut running =
            Running { peer: Peer::start(options, self.library.clone()), id: String::new(), seen: Vec::new() };
        running.id = running
            .until(|event| match event {
                Event::Joined { peer, .. } => Some(peer.clone()),
                _ => None,
            })
            .await;
        running
    }

    fn bytes(&self) -> u64 {
        self.library.items().map(|item| item.bytes.len() as u64).sum()
    }
}

struct Running {
    peer: Peer,
    id: String,
    /// Everything that it has said.
    seen: Vec<Event>,
}

impl Running {
    /// The first event that `pick` takes, of those that were and those to come.
    async fn until<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(&mut pick) {
            return found;
        }
        let (peer, seen) = (&mut self.peer, &mut self.seen);
        let found = timeout(PATIENCE, async {
            loop {
                let event = peer.event().await.expect("the peer lives");
                let found = pick(&event);
                seen.push(event);
                if let Some(found) = found {
                    return found;
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain after {:#?}", self.seen),
        }
    }

    /// Waits until everything is fetched. Every object must equal its file, and nobody but `liar` may be refused.
    async fn done(&mut self, bed: &Bed, liar: Option<&str>) {
        let mut fetched = 0;
        let (objects, bytes) = self
            .until(|event| match event {
                Event::Fetched { equal, bytes, .. } => {
                    assert!(equal, "wrong bytes were kept");
                    fetched += bytes;
                    None
                }
                Event::Refused { peer, reason } => {
                    assert_eq!(Some(peer.as_str()), liar, "refused for {reason}");
                    None
                }
                Event::Done { objects, bytes } => Some((*objects, *bytes)),
                _ => None,
            })
            .await;
        assert_eq!((objects, bytes), (bed.library.items().len(), bed.bytes()));
        assert!(fetched <= bytes);
    }

    async fn refused(&mut self) -> (String, String) {
        self.until(|event| match event {
            Event::Refused { peer, reason } => Some((peer.clone(), reason.clone())),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_exchange_a_film_byte_for_byte() {
    let bed = Bed::new().await;
    let _source = bed.peer(Script::Honest, false).await;
    bed.peer(Script::Honest, true).await.done(&bed, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_is_served_on() {
    let bed = Bed::new().await;
    let source = bed.peer(Script::Honest, false).await;
    let mut relay = bed.peer(Script::Honest, true).await;
    relay.done(&bed, None).await;
    drop(source);
    bed.peer(Script::Honest, true).await.done(&bed, None).await;
}

/// The liar is known by its deed; the honest peer that comes then is not, and brings everything.
async fn is_refused(script: Script, reason: &str) -> Running {
    let bed = Bed::new().await;
    let liar = bed.peer(script, false).await;
    let mut viewer = bed.peer(Script::Honest, true).await;
    assert_eq!(viewer.refused().await, (liar.id.clone(), reason.to_owned()));
    let _source = bed.peer(Script::Honest, false).await;
    viewer.done(&bed, Some(&liar.id)).await;
    liar
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_pieces_are_refused() {
    is_refused(Script::WrongPieces, "wrong-piece").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_list_is_refused() {
    is_refused(Script::ForgedList, "wrong-list").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_piece_at_a_wrong_place_is_refused() {
    is_refused(Script::WrongPlace, "wrong-piece").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_length_data_is_refused() {
    is_refused(Script::ZeroLength, "garbage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_another_object_are_refused() {
    is_refused(Script::OtherObject, "wrong-piece").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_refused() {
    is_refused(Script::Flood, "flood").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_both_channels_is_refused() {
    is_refused(Script::Garbage, "garbage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_proof_is_refused() {
    given_nothing(is_refused(Script::WrongProof, "wrong-proof").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_only_the_announce_id_is_given_nothing() {
    given_nothing(is_refused(Script::AnnounceOnly, "wrong-proof").await).await;
}

async fn given_nothing(mut liar: Running) {
    let closed = liar.until(|event| matches!(event, Event::Closed { .. }).then(|| event.clone())).await;
    let Event::Closed { received, messages, .. } = closed else { unreachable!("picked above") };
    assert_eq!((received, messages), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_passed_over_and_not_refused() {
    let bed = Bed::new().await;
    let mut silent = bed.peer(Script::HalfPieceThenSilence, false).await;
    let mut viewer = bed.peer(Script::Honest, true).await;
    // It was asked, and gave half a piece.
    silent.until(|event| matches!(event, Event::Traffic { served: 1.., .. }).then_some(())).await;
    let _source = bed.peer(Script::Honest, false).await;
    viewer.done(&bed, None).await;
}

/// Four objects in a playlist: of several pieces, of exactly two, of one, and a byte range of a larger file.
fn write_media(folder: &Path) {
    let noise = |seed: u32, len: usize| -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .take(len)
        .collect()
    };
    for (name, seed, len) in [("a.ts", 1, 500_000), ("b.ts", 2, 131_072), ("c.ts", 3, 1_000), ("d.ts", 4, 700_000)] {
        fs::write(folder.join(name), noise(seed, len)).unwrap();
    }
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\na.ts\n#EXTINF:4,\nb.ts\n#EXTINF:1,\nc.ts\n\
                    #EXT-X-BYTERANGE:300000@100001\n#EXTINF:4,\nd.ts\n#EXT-X-ENDLIST\n";
    fs::write(folder.join("index.m3u8"), playlist).unwrap();
}

async fn start_signaling() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let signaling = std::sync::Arc::new(Signaling::start(Settings::with_random_secret().unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let signaling = std::sync::Arc::clone(&signaling);
            let service = service_fn(move |request| {
                let response = signaling.upgrade(request, peer).map(Full::new);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
            tokio::spawn(connection);
        }
    });
    format!("ws://{address}/signal")
}
