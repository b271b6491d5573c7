//! The server as a WebRTC peer of kind edge: it joins the swarms of the videos of its folder, films and live, with what of them is
//! hashed, and follows the folder's changes.

use std::{net::SocketAddr, sync::Arc};

use marea_signaling::{Signaling, message::Kind, token::TokenKey};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use url::Url;

use crate::{
    config::{Config, EDGE_LOOK},
    error::SeederError,
    library::{Change, Films, Library},
    metrics::Metrics,
    peer::{EdgeSide, Peer, PeerPlan},
};

/// A running edge.
pub(crate) struct Edge {
    peer: Arc<Peer>,
    follower: JoinHandle<()>,
}

impl Edge {
    /// Starts it, if `config` wants one. `signaling` runs in this process, which listens at `local`.
    ///
    /// # Errors
    /// The key cannot be read, or there is no thread to be had.
    pub(crate) fn start(
        config: &Config,
        local: SocketAddr,
        library: &Arc<Library>,
        signaling: Option<Signaling>,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, SeederError> {
        let Some(port) = config.edge_port else { return Ok(None) };
        let place = config.signaling.clone().unwrap_or_else(|| format!("ws://{local}/signal"));
        // Both were looked at when they were made.
        let Ok(url) = Url::parse(&place) else { return Ok(None) };
        let key = config.peer_key.as_deref().map(TokenKey::read).transpose().map_err(SeederError::PeerKey)?;
        let (signer, lists) = (Arc::clone(library), Arc::clone(library));
        let side = EdgeSide {
            signaling,
            signer: Box::new(move || signer.signer()),
            playlist: Box::new(move |rel| lists.signed(rel)),
            metrics: Arc::clone(metrics),
        };
        side.begin();
        let mut plan = PeerPlan::new(url, Kind::Edge);
        (plan.key, plan.port, plan.edge) = (key, port, Some(Arc::new(side)));
        let peer = Arc::new(Peer::start(plan).map_err(SeederError::Threads)?);
        let follower = tokio::spawn(follow(Arc::clone(library), Arc::clone(&peer)));
        Ok(Some(Self { peer, follower }))
    }

    /// Says goodbye to everybody.
    pub(crate) async fn stop(self) {
        self.follower.abort();
        let _ = self.follower.await;
        // It waits for its thread.
        let _ = spawn_blocking(move || drop(self.peer)).await;
    }
}

async fn follow(library: Arc<Library>, peer: Arc<Peer>) {
    let mut films = Films::default();
    loop {
        let looking = Arc::clone(&library);
        let looked = spawn_blocking(move || {
            let changes = looking.changes(&mut films);
            (films, changes)
        });
        let Ok((after, changes)) = looked.await else { return };
        films = after;
        for change in changes {
            match change {
                Change::Film(film) => peer.hold(film),
                Change::Gone(video) => peer.drop_video(video),
            }
        }
        sleep(EDGE_LOOK).await;
    }
}
