//! An origin that does as a test says.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What a scripted origin does for a path.
#[derive(Clone)]
pub(crate) enum Route {
    /// Status line, further headers (each with its CR LF), body.
    Answer(&'static str, String, Vec<u8>),
    /// A body of which the second half comes when told.
    Halves(Vec<u8>),
    /// The same, in chunks.
    Chunks(Vec<u8>),
    /// Promises more than it sends.
    Short(Vec<u8>),
    /// The same, in chunks: the last one is missing.
    ShortChunks(Vec<u8>),
    /// Closes without an answer.
    Hang,
}

/// A server that does as it is told, and remembers what it was asked.
pub(crate) struct Script {
    pub(crate) addr: SocketAddr,
    routes: Arc<Mutex<HashMap<String, Route>>>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    gate: watch::Sender<bool>,
}

impl Script {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (routes, asked, gate) =
            (Arc::<Mutex<HashMap<String, Route>>>::default(), Arc::default(), watch::channel(true).0);
        let script = Self { addr, routes: Arc::clone(&routes), asked: Arc::clone(&asked), gate: gate.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&routes), Arc::clone(&asked), gate.subscribe()));
            }
        });
        script
    }

    pub(crate) fn url(&self) -> url::Url {
        format!("http://{}/", self.addr).parse().unwrap()
    }

    pub(crate) fn set(&self, path: &str, route: Route) {
        self.routes.lock().unwrap().insert(path.to_owned(), route);
    }

    pub(crate) fn bytes(&self, path: &str, bytes: &[u8]) {
        self.set(path, Route::Answer("200 OK", String::new(), bytes.to_vec()));
    }

    pub(crate) fn close_gate(&self) {
        self.gate.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Heads of the requests for `path`, with whatever query.
    pub(crate) fn asked(&self, path: &str) -> Vec<String> {
        let fits = |head: &&String| {
            let target = head.split(' ').nth(1).unwrap();
            target.split('?').next() == Some(path)
        };
        self.asked.lock().unwrap().iter().filter(fits).cloned().collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    routes: Arc<Mutex<HashMap<String, Route>>>,
    asked: Arc<Mutex<Vec<String>>>,
    mut gate: watch::Receiver<bool>,
) -> Option<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let range = head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        asked.lock().unwrap().push(head);
        let route = {
            let routes = routes.lock().unwrap();
            routes.get(&target).or_else(|| routes.get(target.split('?').next().unwrap())).cloned()
        };
        match route.unwrap_or_else(|| Route::Answer("404 Not Found", String::new(), b"none".to_vec())) {
            Route::Answer("200 OK", headers, body) if range.is_some() => {
                let range = range.unwrap();
                let (first, last) = range.split_once('-').unwrap();
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let (total, part) = (body.len(), &body[first..=last]);
                let text = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {}\r\n{headers}\r\n",
                    part.len()
                );
                stream.write_all(text.as_bytes()).await.ok()?;
                stream.write_all(part).await.ok()?;
            }
            Route::Answer(status, headers, body) => {
                let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
                stream.write_all(text.as_bytes()).await.ok()?;
                stream.write_all(&body).await.ok()?;
            }
            Route::Halves(body) => {
                let (first, second) = body.split_at(body.len() / 2);
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
                    .await
                    .ok()?;
                stream.write_all(first).await.ok()?;
                gate.wait_for(|open| *open).await.ok()?;
                stream.write_all(second).await.ok()?;
            }
            Route::Chunks(body) => {
                let (first, second) = body.split_at(body.len() / 2);
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
                chunk(&mut stream, first).await?;
                gate.wait_for(|open| *open).await.ok()?;
                chunk(&mut stream, second).await?;
                stream.write_all(b"0\r\n\r\n").await.ok()?;
            }
            Route::Short(body) => {
                stream
                    .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() * 2).as_bytes())
                    .await
                    .ok()?;
                stream.write_all(&body).await.ok()?;
                return None;
            }
            Route::ShortChunks(body) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
                chunk(&mut stream, &body).await?;
                return None;
            }
            Route::Hang => return None,
        }
    }
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> Option<()> {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    stream.write_all(b"\r\n").await.ok()
}
