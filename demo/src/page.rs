//! Serves the page, built in, under the strictest policy that a page with Marea can have.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Stands for the edge's origin in the HTML.
const EDGE: &str = "{{edge}}";

/// Path, type, and text of each file.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("../web/index.html")),
    ("/viewer.html", "text/html; charset=utf-8", include_str!("../web/viewer.html")),
    ("/demo.css", "text/css; charset=utf-8", include_str!("../web/demo.css")),
    ("/demo.js", "text/javascript; charset=utf-8", include_str!("../web/demo.js")),
    ("/viewer.js", "text/javascript; charset=utf-8", include_str!("../web/viewer.js")),
    ("/watchers.js", "text/javascript; charset=utf-8", include_str!("../web/watchers.js")),
    ("/flow.js", "text/javascript; charset=utf-8", include_str!("../web/flow.js")),
    ("/film.js", "text/javascript; charset=utf-8", include_str!("../web/film.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../web/icon.svg")),
];

/// The page server.
#[derive(Debug)]
pub(crate) struct Page {
    edge: String,
    policy: HeaderValue,
}

impl Page {
    /// A page whose video, engine and signaling are at `edge`.
    pub(crate) fn new(edge: SocketAddr) -> Self {
        let origin = format!("http://{edge}");
        let policy = format!(
            "default-src 'none'; script-src 'self' {origin} 'wasm-unsafe-eval'; connect-src {origin} ws://{edge}; \
             media-src {origin} blob:; style-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types marea"
        );
        // Digits, dots and the text above make a header.
        let policy = HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        Self { edge: origin, policy }
    }

    /// Serves until `shutdown` is ready.
    pub(crate) async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let page = Arc::new(self);
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut shutdown => return,
            };
            let Ok((stream, _)) = accepted else { continue };
            let page = Arc::clone(&page);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let response = page.respond(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                    // Browsers drop connections all the time.
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
        }
        let path = request.uri().path();
        let Some((_, kind, text)) = FILES.iter().find(|(name, ..)| *name == path) else {
            return plain(StatusCode::NOT_FOUND, "there is nothing of this name; the page is at /\n");
        };
        let body = if kind.starts_with("text/html") {
            Bytes::from(text.replace(EDGE, &self.edge))
        } else {
            Bytes::from_static(text.as_bytes())
        };
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
