//! Segments and init sections: their bytes against the tags, and how they are given in parts.

use http::{Method, StatusCode, header};
use marea_swarm::{
    ids::{MAX_OBJECT_SIZE, piece_count},
    pieces::{ListCheck, ObjectHasher, check_list, list_from_bytes},
    playlist::{Locator, ObjectRef},
};
use url::Url;

use super::{Visit, client::Reply, headers};

/// Bytes of a part that is asked for to see how parts are given.
const PROBE: usize = 100;

const STALE: &str =
    "run `marea-seeder annotate` again; if a CDN is in between, empty it or give new segments new names";

impl Visit {
    /// Fetches one object and compares it with its tag; `headers` says whether to look at how it is served too.
    pub(super) async fn object(&mut self, locator: &Locator, object: Option<&ObjectRef>, headers: bool, live: bool) {
        let Ok(url) = Url::parse(&locator.url) else { return };
        self.mixed(&url);
        let Some(reply) = self.whole(locator, &url, live).await else { return };
        if let Some(object) = object {
            self.hash(&reply, object);
            if piece_count(object.size) > 1 {
                self.list(locator, object).await;
            }
        }
        if headers {
            headers::cors(&mut self.report, "segment", &reply, self.client.origin());
            headers::segment_type(&mut self.report, &reply);
            headers::segment_cache(&mut self.report, &reply);
            self.parts(&url, locator.range.map_or(0, |range| range.start), &reply.body).await;
            self.preflight(&url).await;
        }
    }

    /// All bytes of an object, as they are.
    async fn whole(&mut self, locator: &Locator, url: &Url, live: bool) -> Option<Reply> {
        let limit = usize::try_from(MAX_OBJECT_SIZE).unwrap_or(usize::MAX);
        let range = locator.range.map(|range| format!("bytes={}-{}", range.start, range.start + range.len - 1));
        // As browsers do: packed if it is not a part.
        let asked = match &range {
            Some(range) => vec![(header::RANGE, range.clone())],
            None => vec![(header::ACCEPT_ENCODING, "gzip, deflate, br".to_owned())],
        };
        let mut answer = self.client.ask(&Method::GET, url, &asked, limit).await;
        if let Ok(reply) = &answer
            && reply.status.is_success()
        {
            headers::segment_packed(&mut self.report, reply);
            if reply.headers.contains_key(header::CONTENT_ENCODING) {
                let plain = [(header::ACCEPT_ENCODING, "identity".to_owned())];
                answer = self.client.ask(&Method::GET, url, &plain, limit).await;
            }
        }
        let wanted = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        match answer {
            Ok(reply) if reply.cut => {
                self.report.change("segment", url, "is over 256 MiB and is never shared", "make shorter segments");
                None
            }
            Ok(reply) if reply.status == wanted => Some(reply),
            Ok(reply) if Self::vanished(reply.status, live) => None,
            Ok(reply) if reply.status == StatusCode::OK => {
                let remedy = "let the server answer byte ranges: this playlist is made of them";
                self.report.change("range", url, "the whole file comes where a part was asked for", remedy);
                None
            }
            Ok(reply) => {
                let says = format!("a playlist names it, and it is answered with {}", reply.status);
                self.report.change("segment", url, says, "put the file there, or make the playlist anew");
                None
            }
            Err(error) => {
                self.report.change("segment", url, error.to_string(), "let viewers reach this server");
                None
            }
        }
    }

    fn hash(&mut self, reply: &Reply, object: &ObjectRef) {
        let mut hasher = ObjectHasher::new();
        hasher.update(&reply.body);
        let hashed = hasher.finish();
        if hashed.size != object.size {
            let says =
                format!("has {} bytes and its tag says {}: its tag is of another content", hashed.size, object.size);
            self.report.change("hash", &reply.url, says, STALE);
        } else if hashed.root != object.root {
            let says = "its bytes do not have the hash in its tag: viewers get it from the server only";
            self.report.change("hash", &reply.url, says, STALE);
        } else {
            self.report.fine("hash", &reply.url, format!("its {} bytes are those of its tag", hashed.size));
        }
    }

    /// The piece list, without which viewers fetch whole objects.
    async fn list(&mut self, locator: &Locator, object: &ObjectRef) {
        let Ok(url) = Url::parse(&locator.list_url()) else { return };
        let limit = usize::try_from(MAX_OBJECT_SIZE).unwrap_or(usize::MAX);
        let remedy = "run `marea-seeder annotate` again, and serve the .pieces files it writes beside the segments";
        let reply = match self.client.ask(&Method::GET, &url, &[], limit).await {
            Ok(reply) if reply.status == StatusCode::OK => reply,
            Ok(reply) => {
                let says = format!("the piece list is answered with {}: viewers wait for whole segments", reply.status);
                return self.report.change("piece-list", &url, says, remedy);
            }
            Err(error) => return self.report.change("piece-list", &url, error.to_string(), remedy),
        };
        headers::cors(&mut self.report, "piece list", &reply, self.client.origin());
        let start = usize::try_from(object.list_at).unwrap_or(usize::MAX);
        let len = piece_count(object.size) as usize * 32;
        let all = if locator.range.is_some() {
            start.checked_add(len).and_then(|end| reply.body.get(start..end))
        } else {
            Some(&reply.body[..])
        };
        let fits = all
            .and_then(list_from_bytes)
            .is_some_and(|list| check_list(&list, object.size, object.root) == ListCheck::Fits);
        if fits {
            self.report.fine("piece-list", &url, "merges to the hash in the tag");
        } else {
            self.report.change(
                "piece-list",
                &url,
                "is not the list of this segment: viewers wait for whole ones",
                remedy,
            );
        }
    }

    /// `Range`: 206 with exactly the part, 416 beyond the end. `start` is where `body` lies in the file.
    async fn parts(&mut self, url: &Url, start: u64, body: &[u8]) {
        let Some(expected) = body.len().checked_sub(PROBE).and_then(|at| body.get(at / 2..at / 2 + PROBE)) else {
            return;
        };
        let first = start + ((body.len() - PROBE) / 2) as u64;
        let last = first + PROBE as u64 - 1;
        let remedy = "let the server answer Range with 206 and Content-Range (nginx and Apache do for files)";
        let range = [(header::RANGE, format!("bytes={first}-{last}"))];
        let reply = match self.client.ask(&Method::GET, url, &range, body.len().max(PROBE)).await {
            Ok(reply) => reply,
            Err(error) => return self.report.change("range", url, error.to_string(), remedy),
        };
        if reply.status != StatusCode::PARTIAL_CONTENT {
            let says = format!("a byte range is answered with {}: pieces cannot be fetched from here", reply.status);
            return self.report.change("range", url, says, remedy);
        }
        let told = reply.header(&header::CONTENT_RANGE);
        let total = told.strip_prefix(&format!("bytes {first}-{last}/"));
        let Some(total) = total.filter(|total| *total == "*" || total.parse::<u64>().is_ok()) else {
            let says = format!("bytes {first}-{last} were asked for, and Content-Range is {told:?}");
            return self.report.change("range", url, says, remedy);
        };
        if reply.body != expected {
            let says = "a part has other bytes than the whole";
            return self.report.change("range", url, says, "let no proxy or script between change or mix up answers");
        }
        self.report.fine("range", url, "parts are given as asked for");
        headers::exposed(&mut self.report, &reply, self.client.origin());
        let Ok(total) = total.parse::<u64>() else { return };
        let beyond = [(header::RANGE, format!("bytes={}-", total.saturating_add(1)))];
        match self.client.ask(&Method::GET, url, &beyond, PROBE).await {
            Ok(reply) if reply.status == StatusCode::RANGE_NOT_SATISFIABLE => {
                self.report.fine("range-outside", url, "beyond the end is answered with 416");
            }
            Ok(reply) => {
                let says = format!("a range beyond the end is answered with {}", reply.status);
                self.report.change("range-outside", url, says, "answer it with 416 (RFC 9110 §15.5.17)");
            }
            Err(error) => self.report.change("range-outside", url, error.to_string(), "answer it with 416"),
        }
    }
}
