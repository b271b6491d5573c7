//! A page: its script tag, its videos, and whether its policy lets them work.

use http::HeaderName;
use url::Url;

use super::{Visit, client::Reply, csp::Policy, html, socket_of};
use crate::sign::PublicKey;

impl Visit {
    /// Looks at the page and all that it names. `own_origin`: requests are made for the page itself.
    pub(super) async fn page(&mut self, reply: &Reply, own_origin: bool) {
        let page = reply.url.clone();
        if own_origin {
            self.client.set_origin(page.origin().ascii_serialization());
        }
        self.page = Some(page.clone());
        let elements = html::elements(&reply.text());
        let base = elements.iter().find(|element| element.name == "base").and_then(|base| base.attribute("href"));
        let base = base.and_then(|href| page.join(href).ok()).unwrap_or_else(|| page.clone());
        let join = |reference: &str| base.join(reference.trim()).ok();

        let mut policies = Policy::parse_list(&reply.header(&HeaderName::from_static("content-security-policy")));
        for meta in elements.iter().filter(|element| element.name == "meta") {
            let is_policy =
                meta.attribute("http-equiv").is_some_and(|name| name.eq_ignore_ascii_case("content-security-policy"));
            if is_policy {
                policies.extend(Policy::parse_list(meta.attribute("content").unwrap_or("")));
            }
        }

        let scripts = elements.iter().filter(|element| element.name == "script");
        let tag = scripts
            .filter_map(|script| Some((script, join(script.attribute("src")?)?)))
            .find(|(_, url)| url.path().ends_with("/marea.js"));
        let Some((tag, script)) = tag else {
            let remedy = "put <script src=\"https://EDGE/marea.js\" defer></script> into the page's <head>";
            let says = "has no <script> that loads marea.js (one that a bundle brings is not seen here)";
            return self.report.change("script", &page, says, remedy);
        };
        self.report.fine("script", &page, format!("loads {script}"));
        self.mixed(&script);
        self.engine(&script).await;

        let pinned = tag.attribute("data-public-key").unwrap_or("");
        for key in pinned.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            match key.parse::<PublicKey>() {
                Ok(key) => self.pinned.push(key),
                Err(error) => self.report.change("signature", &page, error.to_string(), "mend data-public-key"),
            }
        }
        let named = |list: Option<&str>| -> Vec<String> {
            list.unwrap_or("").split([',', ' ']).filter(|url| !url.is_empty()).map(str::to_owned).collect()
        };
        let everywhere = named(tag.attribute("data-signaling"));
        let media = elements.iter().filter(|element| matches!(element.name.as_str(), "video" | "audio" | "source"));
        let videos: Vec<(Url, Vec<String>)> = media
            .filter(|element| element.attribute("data-marea") != Some("off"))
            .filter_map(|element| {
                let own = named(element.attribute("data-marea-signaling"));
                Some((join(element.attribute("src")?)?, if own.is_empty() { everywhere.clone() } else { own }))
            })
            .filter(|(url, _)| url.path().ends_with(".m3u8"))
            .collect();
        if videos.is_empty() {
            let says = "no <video> names a playlist: if a script sets it, give the playlist's URL to have it looked at";
            self.report.note("videos", &page, says);
        }
        self.policy(&policies, &page, &script, tag.attribute("nonce"), &videos);
        for (url, signaling) in videos {
            if let Some(reply) = self.fetch("video", &url).await {
                self.video(reply, signaling).await;
            }
        }
    }

    fn policy(
        &mut self,
        policies: &[Policy],
        page: &Url,
        script: &Url,
        nonce: Option<&str>,
        videos: &[(Url, Vec<String>)],
    ) {
        let mut faults: Vec<(String, String)> = Vec::new();
        for policy in policies {
            if !policy.allows_script(script, page, nonce) {
                let source = script.origin().ascii_serialization();
                faults.push((format!("does not let {script} run"), format!("add {source} to script-src")));
            }
            if !policy.allows_wasm() {
                let says = "does not let WebAssembly compile, so nothing is shared (`csp`)";
                faults.push((says.to_owned(), "add 'wasm-unsafe-eval' to script-src".to_owned()));
            }
            let wasm = script.join("marea.wasm").into_iter();
            let sockets = videos.iter().flat_map(|(url, signaling)| match &signaling[..] {
                [] => socket_of(url).into_iter().collect(),
                named => named.to_vec(),
            });
            let sockets = sockets.filter_map(|url| Url::parse(&url).ok());
            for url in videos.iter().map(|(url, _)| url.clone()).chain(wasm).chain(sockets) {
                if !policy.allows(&["connect-src"], &url, page) {
                    let source = &url[..url::Position::BeforePath];
                    faults.push((format!("does not let pages ask {url}"), format!("add {source} to connect-src")));
                }
            }
            let blob = Url::parse("blob:null/0");
            if let Ok(blob) = blob
                && !policy.allows(&["media-src"], &blob, page)
            {
                let says = "does not let players play what they put together (MSE)";
                faults.push((says.to_owned(), "add blob: to media-src".to_owned()));
            }
            if policy.refuses_our_types() {
                let says = "does not let the engine make its Trusted Types policy";
                faults.push((says.to_owned(), "add marea to trusted-types".to_owned()));
            }
        }
        if faults.is_empty() && !policies.is_empty() {
            self.report.fine("csp", page, "its Content-Security-Policy lets everything work");
        }
        for (says, remedy) in faults {
            self.report.change("csp", page, format!("its Content-Security-Policy {says}"), remedy);
        }
    }
}
