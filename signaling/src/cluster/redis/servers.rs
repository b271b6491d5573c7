//! Where Redis is: one server, a cluster, or what sentinels say.

use std::{fmt, str::FromStr};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cmd,
    sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType},
};

use crate::defaults;

/// The servers of `--redis`.
#[derive(Clone)]
pub struct Servers {
    urls: Vec<ConnectionInfo>,
    /// They are sentinels; the name of what they watch, and how to log in there.
    sentinel: Option<(String, RedisConnectionInfo)>,
}

// URLs hold passwords.
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({})", self.urls.len())
    }
}

/// A text that is no list of servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServersError {
    /// One of them is no URL of Redis. The text is not repeated: it may hold a password.
    #[error(
        "number {0} is no URL such as redis://host:6379, rediss://user:password@host or redis+sentinel://host:26379/name"
    )]
    Url(usize),
    /// Some are sentinels, some are not, or they watch different servers.
    #[error("sentinels stand alone, and all watch the same server")]
    Mixed,
}

impl FromStr for Servers {
    type Err = ServersError;

    /// One or more URLs, separated by commas: `redis://` or `rediss://` (TLS; trusts whom the system trusts), servers of which the first
    /// that answers as a master is used, or nodes of a cluster; or `redis+sentinel://host:26379/name`.
    fn from_str(text: &str) -> Result<Self, ServersError> {
        let mut urls = Vec::new();
        let mut sentinels = Vec::new();
        for (index, url) in text.split(',').map(str::trim).enumerate() {
            let fail = || ServersError::Url(index + 1);
            let (url, name) = match url.strip_prefix("redis+sentinel://") {
                Some(rest) => {
                    let (place, name) = rest.split_once('/').ok_or_else(fail)?;
                    if name.is_empty() || name.contains('/') {
                        return Err(fail());
                    }
                    (format!("redis://{place}"), Some(name.to_owned()))
                }
                None => (url.to_owned(), None),
            };
            let info = url.as_str().into_connection_info().map_err(|_| fail())?;
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            if let Some(name) = name {
                sentinels.push((name, settings));
                // Who logs in at the server it watches does not at the sentinel.
                urls.push(info.set_redis_settings(RedisConnectionInfo::default()));
            } else {
                urls.push(info.set_redis_settings(settings));
            }
        }
        let sentinel = sentinels.first().cloned();
        let same = |(name, _): &(String, RedisConnectionInfo)| Some(name) == sentinel.as_ref().map(|(name, _)| name);
        if !(sentinels.is_empty() || sentinels.len() == urls.len() && sentinels.iter().all(same)) {
            return Err(ServersError::Mixed);
        }
        Ok(Self { urls, sentinel })
    }
}

impl Servers {
    /// Connects. `push` gets what comes unasked.
    pub(super) async fn connect<E: 'static>(
        &self,
        push: impl Fn(PushInfo) -> Result<(), E> + Clone + Send + Sync + 'static,
    ) -> RedisResult<Connection> {
        // `rediss` needs to be told which cryptography to use; it fails if that is known already.
        let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(defaults::REDIS_CONNECT))
            .set_response_timeout(Some(defaults::REDIS_TIMEOUT))
            .set_push_sender(push.clone());
        if let Some((name, settings)) = &self.sentinel {
            let login = SentinelNodeConnectionInfo::default().set_redis_connection_info(settings.clone());
            let mut client =
                SentinelClient::build(self.urls.clone(), name.clone(), Some(login), SentinelServerType::Master)?;
            return Ok(Connection::Server(client.get_async_connection_with_config(&config).await?));
        }
        let mut last = None;
        for url in &self.urls {
            match self.open(url, &config, push.clone()).await {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| std::io::Error::other("none of the servers is a master").into()))
    }

    /// A connection to one server, or to the cluster that it belongs to; `None` if it is a replica.
    async fn open<E: 'static>(
        &self,
        url: &ConnectionInfo,
        config: &AsyncConnectionConfig,
        push: impl Fn(PushInfo) -> Result<(), E> + Send + Sync + 'static,
    ) -> RedisResult<Option<Connection>> {
        let client = Client::open(url.clone())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
        // Who may not ask is taken to be what is usual.
        let info: String = cmd("INFO").arg("cluster").query_async(&mut connection).await.unwrap_or_default();
        if info.contains("cluster_enabled:1") {
            let client = ClusterClient::builder(self.urls.clone())
                .use_protocol(ProtocolVersion::RESP3)
                .connection_timeout(defaults::REDIS_CONNECT)
                .response_timeout(defaults::REDIS_TIMEOUT)
                .push_sender(push)
                .build()?;
            return Ok(Some(Connection::Cluster(client.get_async_connection().await?)));
        }
        let info: String = cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap_or_default();
        Ok((!info.contains("role:slave")).then_some(Connection::Server(connection)))
    }
}

/// A connection for commands and for what comes unasked. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Subscribes to a channel. In a cluster it is one of the server that has it alone; more than one of that kind would be lost
    /// when the client subscribes again after a break.
    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Server(connection) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.ssubscribe(channel).await,
        }
    }

    /// Publishes; returns how many heard it.
    pub(super) async fn publish(&mut self, channel: &str, frame: Vec<u8>) -> RedisResult<u64> {
        let command = match self {
            Self::Server(_) => "PUBLISH",
            Self::Cluster(_) => "SPUBLISH",
        };
        cmd(command).arg(channel).arg(frame).query_async(self).await
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_wrong_ones_are_named_without_their_passwords() {
        for good in [
            "redis://127.0.0.1:6379",
            "rediss://user:pass@redis.example",
            "redis://a:7000,redis://b:7000",
            "redis+sentinel://user:pass@a:26379/main,redis+sentinel://b:26379/main",
            "unix:///run/redis.sock",
        ] {
            assert!(good.parse::<Servers>().is_ok(), "{good}");
        }
        for (wrong, number) in [("", 1), ("http://a", 1), ("redis://a,x:secret@b", 2), ("redis+sentinel://a", 1)] {
            let error = wrong.parse::<Servers>().unwrap_err();
            assert_eq!(error, ServersError::Url(number), "{wrong}");
            assert!(!error.to_string().contains("secret"));
        }
        for mixed in ["redis://a,redis+sentinel://b/m", "redis+sentinel://a/m,redis+sentinel://b/n"] {
            assert_eq!(mixed.parse::<Servers>().unwrap_err(), ServersError::Mixed, "{mixed}");
        }
        let debug = format!("{:?}", "redis://user:hunter2@a".parse::<Servers>().unwrap());
        assert!(!debug.contains("hunter2"));
    }
}
