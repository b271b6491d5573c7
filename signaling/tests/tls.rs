//! `wss:` without a proxy.

#[expect(dead_code, reason = "what the other test files use")]
mod common;

use std::{net::SocketAddr, path::Path, sync::Arc};

use marea_signaling::{
    config::Config,
    server::{Server, StartError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use common::{PATIENCE, config};

/// A certificate for `localhost` in files, and who trusts it.
fn certify(folder: &Path) -> rcgen::Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert
}

async fn connect(address: SocketAddr, trusted: &rcgen::Certificate) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test]
async fn a_websocket_opens_over_tls_and_a_new_certificate_is_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let first = certify(folder.path());
    let files = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let config = Config { tls: Some(files), ..config() };
    let server = Server::bind(&config).await.unwrap();
    let (address, reload) = (server.local_addr().unwrap(), server.tls_reloader());
    tokio::spawn(server.run(std::future::pending()));

    let mut stream = connect(address, &first).await.unwrap();
    let request = "GET /signal HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");

    let second = certify(folder.path());
    reload(&config).unwrap();
    assert!(connect(address, &first).await.is_err());
    assert!(connect(address, &second).await.is_ok());
    // What is wrong changes nothing.
    std::fs::write(folder.path().join("key.pem"), "junk").unwrap();
    assert!(reload(&config).unwrap_err().to_string().contains("key.pem"));
    assert!(connect(address, &second).await.is_ok());
    let Err(StartError::Tls(error)) = Server::bind(&config).await else { panic!("it starts with a wrong key") };
    assert!(error.to_string().contains("key.pem"), "{error}");
}
