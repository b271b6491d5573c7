//! Answers that are one client's own: asked of the origin for it alone, never kept.

use futures_util::stream;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use marea_swarm::ids::MAX_PLAYLIST_SIZE;

use super::{Origin, failed, mark, media_type, refs, upstream::next};
use crate::{
    answer::{Answer, set},
    body::{Body, StreamBody},
    config::ORIGIN_PATIENCE,
    files,
    metrics::Cache,
};

/// What of a request goes on to the origin.
const ASKED: [HeaderName; 8] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::COOKIE,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::RANGE,
    header::REFERER,
];

/// What of an answer comes back.
const ANSWERED: [HeaderName; 8] = [
    header::ACCEPT_RANGES,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
];

impl Origin {
    /// Asks for `asked`, path and query as the client gave them.
    pub(super) async fn pass(&self, request: &Request<Incoming>, rel: &str, asked: &str) -> Answer {
        let pick = |from: &HeaderMap, names: &[HeaderName]| {
            let mut picked = HeaderMap::new();
            for name in names {
                for value in from.get_all(name) {
                    picked.append(name, value.clone());
                }
            }
            picked
        };
        let mut headers = pick(request.headers(), &ASKED);
        if files::is_playlist(rel) {
            // Its references have to be changed, in all of it.
            headers.remove(header::RANGE);
        }
        let reply = match self.upstream.ask(request.method(), asked, &headers).await {
            Ok(reply) => reply,
            Err(error) => return failed(&error.to_string()),
        };
        let (head, body) = reply.response.into_parts();
        let mut response = Response::new(Body::Memory(bytes::Bytes::new()));
        *response.status_mut() = head.status;
        *response.headers_mut() = pick(&head.headers, &ANSWERED);
        let stated = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let out = response.headers_mut();
        set(out, header::CONTENT_TYPE, media_type(rel, stated));
        set(out, header::CACHE_CONTROL, "private, no-store");
        mark(out, Cache::bypass, 0);
        let kind = files::kind(rel, self.names.is_init(asked));
        if files::is_playlist(rel) && head.status == StatusCode::OK {
            let limited = Limited::new(body, MAX_PLAYLIST_SIZE).collect();
            let text = match tokio::time::timeout(ORIGIN_PATIENCE, limited).await {
                Ok(Ok(text)) => text.to_bytes(),
                Ok(Err(error)) => return failed(&error.to_string()),
                Err(_) => return failed("it takes too long"),
            };
            let text = match std::str::from_utf8(&text) {
                Ok(text) => refs::rewrite(text, &reply.url, asked, self.upstream.base()).into(),
                Err(_) => text,
            };
            out.remove(header::ETAG);
            out.insert(header::CONTENT_LENGTH, text.len().into());
            *response.body_mut() = Body::Memory(text);
            return Answer { response, kind, cache: Cache::bypass };
        }
        let len = body.size_hint().exact();
        let bytes = stream::unfold(Some((body, reply.place)), |state| async {
            let (mut body, place) = state?;
            match next(&mut body).await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some((body, place)))),
                Ok(None) => None,
                Err(error) => Some((Err(std::io::Error::other(error)), None)),
            }
        });
        if len != Some(0) {
            *response.body_mut() = Body::Stream(StreamBody::new(bytes, len));
        }
        Answer { response, kind, cache: Cache::bypass }
    }
}
