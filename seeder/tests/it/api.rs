//! The API and the inbox, over real HTTP and with the real ffmpeg.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::support::{Edge, Reply, folder};

const TOKEN: &str = "a-token-of-more-than-16-characters";

/// A small film.
fn film(work: &Path) -> Vec<u8> {
    let path = work.join("made.mkv");
    let mut command = std::process::Command::new("ffmpeg");
    command.args("-nostdin -y -v error -f lavfi -i testsrc2=s=160x90:r=10:d=2 -c:v mpeg4".split(' ')).arg(&path);
    assert!(command.status().expect("ffmpeg").success());
    fs::read(path).expect("a film")
}

struct Bed {
    work: tempfile::TempDir,
    edge: Edge,
}

impl Bed {
    async fn new() -> Self {
        let work = folder();
        fs::create_dir(work.path().join("root")).expect("a folder");
        fs::write(work.path().join("token"), format!("{TOKEN}\n")).expect("a token");
        let edge = Self::start(&work).await;
        Self { work, edge }
    }

    async fn start(work: &tempfile::TempDir) -> Edge {
        Edge::with(&work.path().join("root"), |config| {
            config.inbox = Some(work.path().join("inbox"));
            config.api_token = Some(work.path().join("token"));
            config.max_upload = 1_000_000;
        })
        .await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let bearer = format!("Bearer {TOKEN}");
        let length = body.len().to_string();
        let mut all = vec![("Authorization", bearer.as_str()), ("Content-Length", length.as_str())];
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        all.retain(|(name, _)| !headers.contains(&(*name, "")));
        self.send(method, path, &all, body).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.edge.addr).await.expect("a connection");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).await.expect("sent");
        // A server that has refused may close before it has read all.
        let _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        Reply::parse(&bytes)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let reply = self.ask("GET", path, &[], b"").await;
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    /// The progress of a video once it is at an end.
    async fn ended(&self, slug: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let (_, progress) = self.get(&format!("/api/v1/videos/{slug}/progress")).await;
            if progress["state"] == "done" || progress["state"] == "failed" {
                return progress;
            }
            assert!(Instant::now() < end, "{slug}: {progress}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn code(reply: &Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("no JSON: {}", reply.text()));
    assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() > 20), "{body}");
    format!("{} {}", reply.status, body["error"]["code"].as_str().unwrap_or_default())
}

/// What of `value` is not as `schema` says.
fn misfit(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        return misfit(document, document.pointer(pointer).expect("a schema"), value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = any.iter().any(|schema| misfit(document, schema, value, at).is_none());
        return (!fits).then(|| format!("{at}: {value} is none of {any:?}"));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value} is not one of {words:?}"));
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("{other}?"),
    };
    let fits = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().expect("a type"))),
        kind => is(kind.as_str().unwrap_or_else(|| panic!("{at}: no type in {schema}"))),
    };
    if !fits {
        return Some(format!("{at}: {value} is no {}", schema["type"]));
    }
    let required = schema["required"].as_array().into_iter().flatten();
    for name in required {
        if value.get(name.as_str().expect("a name")).is_none() {
            return Some(format!("{at}: {name} is missing in {value}"));
        }
    }
    for (name, item) in value.as_object().into_iter().flatten() {
        let known = schema.get("properties").map(|properties| &properties[name]).filter(|known| !known.is_null());
        let Some(known) = known.or_else(|| schema.get("additionalProperties")) else {
            if schema.get("properties").is_none() {
                continue;
            }
            return Some(format!("{at}: {name} is not in the document"));
        };
        if let Some(wrong) = misfit(document, known, item, &format!("{at}.{name}")) {
            return Some(wrong);
        }
    }
    value.as_array().into_iter().flatten().find_map(|item| misfit(document, &schema["items"], item, at))
}

/// Asserts that an answer is one that the document names.
fn as_documented(document: &Value, path: &str, method: &str, reply: &Reply) {
    let at = format!("{method} {path}: {}", reply.status);
    let answer = &document["paths"][path][method]["responses"][reply.status.to_string()];
    assert!(!answer.is_null(), "{at} is not in the document: {}", reply.text());
    let answer = match answer["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).expect("a response"),
        None => answer,
    };
    let Some(schema) = answer.pointer("/content/application~1json/schema") else {
        assert!(reply.body.is_empty(), "{at} has a body: {}", reply.text());
        return;
    };
    assert_eq!(reply.header("content-type"), "application/json", "{at}");
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{at}: {}", reply.text()));
    assert_eq!(misfit(document, schema, &body, &at), None);
}

#[tokio::test]
async fn the_document_is_what_the_api_does() {
    let bed = Bed::new().await;
    let reply = bed.send("GET", "/api/v1/openapi.json", &[], b"").await;
    assert_eq!(reply.status, 200, "it is no secret");
    let document: Value = serde_json::from_slice(&reply.body).expect("JSON");
    let source = film(bed.work.path());
    assert_eq!(bed.ask("PUT", "/api/v1/videos/tide/source", &[], &source).await.status, 201);
    bed.ended("tide").await;
    let paths = document["paths"].as_object().expect("paths");
    let methods = ["get", "put", "post", "delete", "patch"];
    // What there is, then what there is not; last what ends it.
    let order = ["get", "put", "post", "delete"];
    for method in order {
        for (path, item) in paths {
            if item.get(method).is_none() {
                continue;
            }
            for slug in ["tide", "nobody", "No%20slug"] {
                let target = path.replace("{slug}", slug);
                let name = method.to_uppercase();
                if item[method]["security"].is_null() {
                    for headers in
                        [&[][..], &[("Authorization", "Bearer wrong-token-of-16-letters"), ("Cookie", TOKEN)]]
                    {
                        let reply = bed.send(&name, &target, headers, b"").await;
                        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{target}");
                        as_documented(&document, path, method, &reply);
                    }
                }
                let reply = bed.ask(&name, &target, &[], b"no film").await;
                if slug == "No%20slug" && path.contains("{slug}") {
                    assert_eq!(code(&reply), "400 bad-name");
                } else {
                    as_documented(&document, path, method, &reply);
                }
            }
        }
    }
    for (path, item) in paths {
        for method in methods.iter().filter(|method| item.get(**method).is_none()) {
            let target = path.replace("{slug}", "tide");
            let reply = bed.ask(&method.to_uppercase(), &target, &[], b"").await;
            assert!(matches!(reply.status, 404 | 405), "{method} {path} is not in the document: {}", reply.status);
        }
    }
    let preflight = bed.send("OPTIONS", "/api/v1/videos", &[("Origin", "https://a.example")], b"").await;
    assert!(preflight.header("access-control-allow-headers").contains("Authorization"));
    assert_eq!(preflight.header("access-control-allow-credentials"), "", "never by cookies");
    bed.edge.stop().await;
}

#[tokio::test]
async fn a_film_is_uploaded_in_parts_played_withdrawn_and_deleted() {
    let bed = Bed::new().await;
    let film = film(bed.work.path());
    let (path, half, all) = ("/api/v1/videos/high-tide/source", film.len() / 2, film.len());
    let range = |first: usize, last: usize| format!("bytes {first}-{}/{all}", last - 1);

    // A line that breaks: what came is kept, and told.
    let mut stream = TcpStream::connect(bed.edge.addr).await.expect("a connection");
    let head =
        format!("PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: bearer {TOKEN}\r\nContent-Length: {all}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &film[..1000]].concat()).await.expect("sent");
    stream.shutdown().await.expect("cut off");
    drop(stream);
    let end = Instant::now() + Duration::from_secs(20);
    while bed.get(path).await.1["received"] != 1000 {
        assert!(Instant::now() < end, "{:?}", bed.get(path).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bed.get("/api/v1/videos").await.1["videos"], Value::Array(Vec::new()), "nothing half-made is listed");

    let wrong = loop {
        let wrong = bed.ask("PUT", path, &[("Content-Range", &range(half, all))], &film[half..]).await;
        // Until the broken one has been put on the disk.
        if code(&wrong) != "409 busy" {
            break wrong;
        }
        assert!(Instant::now() < end);
    };
    assert_eq!(code(&wrong), "409 wrong-offset");
    let part = bed.ask("PUT", path, &[("Content-Range", &range(1000, half))], &film[1000..half]).await;
    assert_eq!(part.status, 202, "{}", part.text());
    let whole = bed.ask("PUT", path, &[("Content-Range", &range(half, all))], &film[half..]).await;
    assert_eq!(whole.status, 201, "{}", whole.text());
    assert_eq!(fs::read(bed.work.path().join("inbox/high-tide")).expect("on disk"), film);
    let progress = bed.ended("high-tide").await;
    assert_eq!(
        (&progress["state"], &progress["renditions"]["90p"]),
        (&Value::from("done"), &Value::from(1.0)),
        "{progress}"
    );

    let end = Instant::now() + Duration::from_secs(20);
    let video = loop {
        let (status, video) = bed.get("/api/v1/videos/high-tide").await;
        assert_eq!(status, 200);
        if video["playlist"].is_string() {
            break video;
        }
        assert!(Instant::now() < end, "{video}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let playlist = video["playlist"].as_str().expect("a path").to_owned();
    assert!(bed.edge.text(&playlist).await.contains("#EXT-X-MAREA:"));
    assert_eq!(bed.edge.get(video["poster"].as_str().expect("a path")).await.status, 200);

    let large = vec![0; 1_000_001];
    assert_eq!(code(&bed.ask("PUT", "/api/v1/videos/big/source", &[], &large).await), "413 too-large");
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Length", "")];
    let body = [format!("{:x}\r\n", large.len()).as_bytes(), &large, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(code(&bed.ask("PUT", "/api/v1/videos/big/source", &chunked, &body).await), "413 too-large");

    let revoked = bed.ask("POST", "/api/v1/videos/high-tide/revoke", &[], b"").await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let end = Instant::now() + Duration::from_secs(20);
    while bed.edge.get(&playlist).await.status != 410 {
        assert!(Instant::now() < end, "it is served on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bed.get("/api/v1/videos/high-tide").await.1["revoked"], true);
    assert_eq!(bed.ask("DELETE", "/api/v1/videos/high-tide", &[], b"").await.status, 204);
    assert_eq!(code(&bed.ask("DELETE", "/api/v1/videos/high-tide", &[], b"").await), "404 unknown-video");
    assert!(!bed.work.path().join("root/high-tide").exists() && !bed.work.path().join("inbox/high-tide").exists());
    bed.edge.stop().await;
}

#[tokio::test]
async fn what_is_put_into_the_inbox_is_packaged_once_and_what_is_broken_is_said() {
    let bed = Bed::new().await;
    let inbox = bed.work.path().join("inbox");
    fs::write(inbox.join("Low Tide.mkv"), film(bed.work.path())).expect("a film");
    fs::write(inbox.join("broken.mp4"), b"no film at all").expect("a file");
    std::os::unix::fs::symlink("/etc/hostname", inbox.join("link.mp4")).expect("a link");
    let (good, bad) = (bed.ended("low-tide").await, bed.ended("broken").await);
    assert_eq!((&good["state"], &good["error"]), (&Value::from("done"), &Value::Null), "{good}");
    let said = bad["error"].as_str().expect("a reason");
    assert!(bad["state"] == "failed" && said.contains("no MP4 at all"), "{bad}");
    let (_, list) = bed.get("/api/v1/videos").await;
    let slugs: Vec<&str> =
        list["videos"].as_array().expect("a list").iter().filter_map(|video| video["slug"].as_str()).collect();
    assert_eq!(slugs, ["broken", "low-tide"]);
    let master = bed.work.path().join("root/low-tide/master.m3u8");
    let made = fs::metadata(&master).and_then(|metadata| metadata.modified()).expect("made");

    let Bed { work, edge } = bed;
    edge.stop().await;
    let edge = Bed::start(&work).await;
    let bed = Bed { work, edge };
    // At once: nothing is read or tried again.
    assert_eq!(bed.get("/api/v1/videos/low-tide/progress").await.1["state"], "done");
    assert_eq!(bed.get("/api/v1/videos/broken/progress").await.1["state"], "failed");
    assert_eq!(fs::metadata(&master).and_then(|metadata| metadata.modified()).expect("there"), made);
    // A better copy is taken.
    fs::write(bed.work.path().join("inbox/broken.mp4"), film(bed.work.path())).expect("a film");
    let end = Instant::now() + Duration::from_secs(30);
    while bed.ended("broken").await["state"] != "done" {
        assert!(Instant::now() < end, "it is not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bed.edge.stop().await;
}

#[tokio::test]
async fn without_a_token_there_is_no_api_and_a_bad_one_is_refused() {
    let work = folder();
    let edge = Edge::of(work.path()).await;
    let reply = edge.ask("GET", "/api/v1/videos", &[("Authorization", "Bearer ")]).await;
    assert_eq!(code(&reply), "403 no-api");
    edge.stop().await;
    let token = work.path().join(".token");
    fs::write(&token, "short\n").expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_marea-seeder"))
        .args(["serve", "--listen", "127.0.0.1:0", "--root"])
        .arg(work.path())
        .arg("--api-token")
        .arg(&token)
        .output()
        .expect("the program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("fewer than 16 characters"), "{said}");
}
