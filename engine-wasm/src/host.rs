//! What the core asks of the page: one method per [`marea_swarm::Action`], and a few answers that are cheaper to hand
//! over field by field than as objects.
//!
//! The methods are `web/src/host.ts`'s `CoreHost`. They must neither throw (the exception would unwind through Rust
//! frames that cannot) nor call back into the [`crate::Engine`] (it is borrowed while it drains its actions).
//! A `&[u8]` arrives in JavaScript as a view into wasm memory that is dead after the call; a `Vec<u8>` as a copy of
//! its own.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// The page's side of one engine.
    #[derive(Debug)]
    pub type Host;

    /// `new URL(reference, base).href` without fragment; `undefined` if that is no URL.
    #[wasm_bindgen(method)]
    pub fn resolve(this: &Host, base: &str, reference: &str) -> Option<String>;

    /// The SHA-256 (32 bytes) of bytes `start..end` of a resource, if the page has a list of such hashes that names it.
    #[wasm_bindgen(method)]
    pub fn digest(this: &Host, url: &str, start: f64, end: f64) -> Option<Vec<u8>>;

    /// Result of indexing a playlist. `kind`: 0 invalid, 1 multivariant, 2 media, 3 a delta update that leaves out what was
    /// never read. `problem`: 0 none, 1 tags that are malformed or contradict each other, 2 tags of a later version.
    #[wasm_bindgen(method)]
    #[allow(clippy::too_many_arguments)] // an object would cost glue for every field
    pub fn indexed(
        this: &Host,
        kind: u32,
        video: Option<String>,
        signaling: Option<String>,
        complete: bool,
        problem: u32,
        objects: u32,
        segments: u32,
        ended: bool,
    );

    /// [`marea_swarm::Action::Fetch`]. `start` and `end` are bytes of the resource, `size` those of the object.
    #[wasm_bindgen(method)]
    #[allow(clippy::too_many_arguments)] // as above
    pub fn fetch(
        this: &Host,
        fetch: u32,
        object: u32,
        url: &str,
        start: f64,
        end: f64,
        ranged: bool,
        reload: bool,
        first_piece: u32,
        size: f64,
    );

    /// [`marea_swarm::Action::FetchList`].
    #[wasm_bindgen(method, js_name = fetchList)]
    pub fn fetch_list(this: &Host, fetch: u32, url: &str, start: f64, len: u32, ranged: bool);

    /// [`marea_swarm::Action::AbortFetch`].
    #[wasm_bindgen(method, js_name = abortFetch)]
    pub fn abort_fetch(this: &Host, fetch: u32);

    /// [`marea_swarm::Action::SendControl`].
    #[wasm_bindgen(method, js_name = sendControl)]
    pub fn send_control(this: &Host, peer: u32, bytes: &[u8]);

    /// [`marea_swarm::Action::SendFrame`]. Returns the bytes that now lie unsent in the channel.
    #[wasm_bindgen(method, js_name = sendFrame)]
    pub fn send_frame(this: &Host, peer: u32, header: &[u8], object: u32, piece: u32, offset: u32, len: u32) -> u32;

    /// [`marea_swarm::Action::Keep`].
    #[wasm_bindgen(method)]
    pub fn keep(this: &Host, object: u32, piece: u32, bytes: Vec<u8>);

    /// [`marea_swarm::Action::Evict`].
    #[wasm_bindgen(method)]
    pub fn evict(this: &Host, object: u32);

    /// [`marea_swarm::Action::Deliver`].
    #[wasm_bindgen(method)]
    pub fn deliver(this: &Host, request: u32, object: u32);

    /// [`marea_swarm::Action::DeliverUnverified`]: the body of a `reload` transfer, which the page has kept.
    #[wasm_bindgen(method, js_name = deliverUnverified)]
    pub fn deliver_unverified(this: &Host, request: u32, fetch: u32);

    /// [`marea_swarm::Action::OriginDiffers`].
    #[wasm_bindgen(method, js_name = originDiffers)]
    pub fn origin_differs(this: &Host, object: u32);

    /// [`marea_swarm::Action::Check`]. Answered by [`crate::Engine::checked`].
    #[wasm_bindgen(method)]
    pub fn check(this: &Host, object: u32, size: f64, check: u32);

    /// [`marea_swarm::Action::Fail`].
    #[wasm_bindgen(method)]
    pub fn fail(this: &Host, request: u32, status: u32);

    /// [`marea_swarm::Action::Close`].
    #[wasm_bindgen(method)]
    pub fn close(this: &Host, peer: u32, banned: bool, reason: &str);

    /// [`marea_swarm::Action::ReloadPlaylist`].
    #[wasm_bindgen(method, js_name = reloadPlaylist)]
    pub fn reload_playlist(this: &Host, url: &str);

    /// [`marea_swarm::Action::Text`].
    #[wasm_bindgen(method)]
    pub fn text(this: &Host, name: &str, text: &[u8]);

    /// [`marea_swarm::Action::TextAsked`]. Answered by [`crate::Engine::give_text`].
    #[wasm_bindgen(method, js_name = textAsked)]
    pub fn text_asked(this: &Host, peer: u32, name: &str);

    /// [`marea_swarm::Action::Refused`]. `what`: 0 piece, 1 list, 2 object; `peer` is who brought it, -1 less the number of the transfer for HTTP.
    #[wasm_bindgen(method)]
    pub fn refused(this: &Host, what: u32, object: u32, peer: f64);

    /// One neighbour: the answer to [`crate::Engine::peers`]. `kind`: 0 viewer, 1 mirror, 2 edge; rates in bytes/s.
    #[wasm_bindgen(method)]
    #[allow(clippy::too_many_arguments)] // as above
    pub fn peer(this: &Host, peer: u32, kind: u32, open: bool, rtt_ms: f64, down: f64, up: f64, pieces: f64);
}
