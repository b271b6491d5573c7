//! Answers to a neighbour's requests.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use marea_swarm::{
    Oid,
    wire::{FRAME_HEADER_LEN, FRAME_PAYLOAD},
};
use tokio::sync::mpsc;
use webrtc::data_channel::DataChannel;

use super::{Shared, link::send, lock, script::Script};

/// What went over a connection.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) served: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) messages: AtomicU64,
}

/// A neighbour's request.
pub(super) struct Upload {
    pub(super) request: u32,
    pub(super) oid: Oid,
    pub(super) pieces: Range<u32>,
    pub(super) deadline: Instant,
}

/// Answers requests in their order.
pub(super) async fn upload(
    shared: Arc<Shared>,
    data: Arc<dyn DataChannel>,
    mut queue: mpsc::UnboundedReceiver<Upload>,
    cancelled: Arc<Mutex<HashSet<u32>>>,
    counters: Arc<Counters>,
) {
    let script = shared.options.script;
    let mut silent = false;
    while let Some(job) = queue.recv().await {
        let Some(item) = shared.library.get(job.oid) else { continue };
        for piece in job.pieces.clone() {
            let Some(bytes) = lock(&shared.store).piece(job.oid, piece) else { continue };
            let bytes = script.bytes(&shared.library, item, piece, &bytes);
            for message in script.frames(job.request, item, piece, &bytes) {
                let over = lock(&cancelled).contains(&job.request) || Instant::now() > job.deadline;
                if over || silent {
                    break;
                }
                if send(&data, &message).await.is_err() {
                    return;
                }
                counters.served.fetch_add((message.len() - FRAME_HEADER_LEN) as u64, Relaxed);
            }
            silent |= script == Script::HalfPieceThenSilence && bytes.len() > FRAME_PAYLOAD as usize;
        }
    }
}
