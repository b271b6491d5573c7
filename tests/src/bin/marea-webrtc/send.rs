//! A sender over the `webrtc` crate: as many 16 KiB messages as its channels take.

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::BytesMut;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::{mpsc, watch},
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCSessionDescription,
    },
};

use crate::say;

/// Length of a message.
const MESSAGE: usize = 16 * 1024;

/// What a channel holds before `send` waits; the crate's default has no bound.
const SEND_BUFFER: usize = 256 * 1024;

#[derive(Deserialize)]
struct Order {
    id: u32,
    address: IpAddr,
    offer: String,
}

struct Handler {
    gathered: watch::Sender<bool>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        tokio::spawn(serve(channel));
    }
}

/// Sends over a channel from its first message on until it closes.
async fn serve(channel: Arc<dyn DataChannel>) {
    let (asked, mut asks) = mpsc::channel(1);
    let sending = Arc::clone(&channel);
    tokio::spawn(async move {
        if asks.recv().await.is_some() {
            let message = [0x5a; MESSAGE];
            while sending.send(BytesMut::from(&message[..])).await.is_ok() {}
        }
    });
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnMessage(_) => {
                // Asked again while it sends: nothing more to do.
                let _ = asked.try_send(());
            }
            DataChannelEvent::OnClose => break,
            _ => {}
        }
    }
}

/// Answers offers on standard input until that ends.
#[tokio::main]
pub(crate) async fn run() -> Result<()> {
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    // A connection ends when it is dropped.
    let mut connections: Vec<Box<dyn PeerConnection>> = Vec::new();
    while let Some(order) = orders.next_line().await? {
        let Order { id, address, offer } = serde_json::from_str(&order)?;
        let (gathered, mut done) = watch::channel(false);
        let connection = PeerConnectionBuilder::new()
            .with_handler(Arc::new(Handler { gathered }))
            .with_runtime(Arc::new(webrtc::runtime::TokioRuntime))
            .with_udp_addrs(vec![format!("{address}:0")])
            .with_data_channel_send_buffer_limit(SEND_BUFFER)
            .build()
            .await?;
        connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer).await?;
        done.wait_for(|&done| done).await?;
        let answer = connection.local_description().await.context("no answer was made")?.sdp;
        connections.push(Box::new(connection));
        say(&serde_json::json!({ "id": id, "answer": answer }))?;
    }
    Ok(())
}
