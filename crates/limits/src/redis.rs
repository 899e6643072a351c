//! Counting in Redis with each request. Keys are Kong's, so that its nodes and ours can share a server.
//!
//! One script looks at all limits of a request and counts against all or none, which Redis does without interruption: exact, however many
//! nodes there are. (Kong counts each limit by itself, and refused requests too.) What is added afterwards is sent by a background task, in
//! the order in which it came.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::io::AsyncDNSResolver;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, Script, ScriptInvocation,
    Value,
};
use silverback_plugin::{ConfigError, PluginEnv};
use tokio::sync::{mpsc, watch};

use crate::kept::Kept;
use crate::meter::{Away, Subject};
use crate::settings::Redis;
use crate::window::{Window, unix_now};

/// After a connection failed, this long until the next is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// Additions sent in one round trip.
const BATCH: usize = 1000;

/// Adds to a counter and answers its total; a counter that is new is forgotten at the given time.
const ADD: &str = "local total = redis.call('INCRBY', KEYS[1], ARGV[1])
    if total == tonumber(ARGV[1]) then redis.call('EXPIREAT', KEYS[1], ARGV[2]) end
    return total";

/// Limits and last seconds of the windows in turn; answers 1 or 0 for admitted, then what each counter was before.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local answer = {1}
        for i = 1, #KEYS do
          local used = tonumber(redis.call('GET', KEYS[i]) or '0')
          answer[i + 1] = used
          if used >= tonumber(ARGV[2 * i - 1]) then answer[1] = 0 end
        end
        if answer[1] == 1 then
          for i = 1, #KEYS do
            if redis.call('INCR', KEYS[i]) == 1 then redis.call('EXPIREAT', KEYS[i], ARGV[2 * i]) end
          end
        end
        return answer",
    )
});

/// Answers what counters are.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local answer = {}
        for i = 1, #KEYS do answer[i] = tonumber(redis.call('GET', KEYS[i]) or '0') end
        return answer",
    )
});

/// Counters in Redis.
pub(crate) struct Counters {
    link: Arc<Kept<Link>>,
    later: Arc<Later>,
}

/// What is to be added in the background.
struct Later(mpsc::UnboundedSender<Addition>);

struct Addition {
    name: String,
    amount: u64,
    expires: i64,
}

impl Counters {
    pub(crate) fn shared(settings: &Redis, env: &PluginEnv<'_>) -> Result<Self, ConfigError> {
        let link = Link::shared(settings, env)?;
        let later = env.shared(&settings.identity(), || {
            let (later, inbox) = mpsc::unbounded_channel();
            env.services
                .spawn(Box::pin(add_forever(link.clone(), inbox)));
            Later(later)
        });
        Ok(Counters { link, later })
    }

    /// Counts a request against all limits, or against none when one of them is reached: `false`. `used` gets what was used before.
    pub(crate) async fn take(&self, subject: &Subject<'_>, used: &mut [u64]) -> Result<bool, Away> {
        let mut script = TAKE.prepare_invoke();
        for limit in subject.limits {
            let window = subject.window(limit);
            script.key(subject.name(limit, &window));
            script.arg(limit.most).arg(until(&window));
        }
        let answer: Vec<u64> = self.link.call(&script).await?;
        for (used, counted) in used.iter_mut().zip(answer.iter().skip(1)) {
            *used = *counted;
        }
        Ok(answer.first() == Some(&1))
    }

    /// What is used of each limit.
    pub(crate) async fn read(&self, subject: &Subject<'_>, used: &mut [u64]) -> Result<(), Away> {
        for (used, counted) in used.iter_mut().zip(self.link.totals(subject).await?) {
            *used = counted;
        }
        Ok(())
    }

    /// Adds to what is used of each limit, soon.
    pub(crate) fn add(&self, subject: &Subject<'_>, amounts: &[u64]) {
        for (limit, amount) in subject.charged(amounts) {
            let window = subject.window(limit);
            // The task lives as long as the sender.
            let _ = self.later.0.send(Addition {
                name: subject.name(limit, &window),
                amount,
                expires: until(&window),
            });
        }
    }
}

/// Adds what comes, and keeps what cannot be sent until its window is over. What waits is little: only who has just read from Redis adds.
async fn add_forever(link: Arc<Kept<Link>>, mut inbox: mpsc::UnboundedReceiver<Addition>) {
    let mut batch = Vec::new();
    while !batch.is_empty() || inbox.recv_many(&mut batch, BATCH).await > 0 {
        let mut pipeline = ::redis::pipe();
        for a in &batch {
            add_to(&mut pipeline, &a.name, a.amount, a.expires);
        }
        match link.add(pipeline).await {
            Ok(answers) => {
                for refusal in answers.into_iter().filter_map(Result::err) {
                    tracing::error!("a rate limit is not counted: redis: {refusal}");
                }
                batch.clear();
            }
            Err(Failure::Unheard(away)) => {
                tracing::error!("rate limits may not be counted: {away}");
                batch.clear();
            }
            Err(Failure::Unsent(away)) => {
                tracing::error!("rate limits are counted later: {away}");
                let now = unix_now();
                batch.retain(|a| a.expires > now);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Adds to a counter as part of a pipeline, which answers its total.
pub(crate) fn add_to(pipeline: &mut Pipeline, name: &str, amount: u64, expires: i64) {
    let command = pipeline.cmd("EVAL").arg(ADD).arg(1);
    command.arg(name).arg(amount).arg(expires);
}

/// Why additions have no answer.
pub(crate) enum Failure {
    /// None was sent.
    Unsent(Away),
    /// They were sent, and nobody knows what became of them. Sent again, they might count twice.
    Unheard(Away),
}

/// When a counter may be forgotten: a while after its window, for nodes whose clocks differ.
pub(crate) fn until(window: &Window) -> i64 {
    window.end + 1
}

/// A connection that all configurations with the same server share. It lives on the node's background runtime and is made anew
/// when it breaks.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    broken: mpsc::Sender<()>,
    timeout: Duration,
}

#[derive(Clone)]
enum State {
    Connecting,
    Up(MultiplexedConnection),
    Down(Arc<str>),
}

impl Link {
    pub(crate) fn shared(
        config: &Redis,
        env: &PluginEnv<'_>,
    ) -> Result<Arc<Kept<Self>>, ConfigError> {
        let timeout = Duration::from_millis(config.timeout.unwrap_or(2000));
        let info = info(config)?;
        let client = Client::open(info).map_err(|e| ConfigError::new("redis", e.to_string()))?;
        let mut settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        if let (Some(true), Some(_), Some(host)) = (config.ssl, &config.server_name, &config.host) {
            settings = settings.set_dns_resolver(Elsewhere(host.clone()));
        }
        Ok(env.shared(&config.identity(), || {
            let (publish, state) = watch::channel(State::Connecting);
            let (broken, inbox) = mpsc::channel(1);
            env.services
                .spawn(Box::pin(keep_connected(client, settings, publish, inbox)));
            Kept(Arc::new(Link {
                state,
                broken,
                timeout,
            }))
        }))
    }

    /// What is counted of each limit.
    pub(crate) async fn totals(&self, subject: &Subject<'_>) -> Result<Vec<u64>, Away> {
        let mut script = READ.prepare_invoke();
        for limit in subject.limits {
            script.key(subject.name(limit, &subject.window(limit)));
        }
        self.call(&script).await
    }

    /// Runs a script.
    async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Away> {
        let mut connection = self.connection().await?;
        script
            .invoke_async(&mut connection)
            .await
            .map_err(|e| self.lost(&e))
    }

    /// Adds to counters (see [`add_to`]) and answers their totals, each by itself: when Redis refuses one, the others are counted and must
    /// not be sent again.
    pub(crate) async fn add(
        &self,
        mut additions: Pipeline,
    ) -> Result<Vec<RedisResult<u64>>, Failure> {
        let mut connection = self.connection().await.map_err(Failure::Unsent)?;
        // The client does not say whether anything was sent on a connection that broke. So that one which broke before costs no counts, it
        // is tried first; a refusal is an answer too.
        let mut ping = ::redis::pipe();
        ping.cmd("PING").ignore_errors();
        let there: RedisResult<Vec<RedisResult<Value>>> = ping.query_async(&mut connection).await;
        there.map_err(|e| Failure::Unsent(self.lost(&e)))?;
        additions.ignore_errors();
        let answers = additions.query_async(&mut connection).await;
        answers.map_err(|e| Failure::Unheard(self.lost(&e)))
    }

    async fn connection(&self) -> Result<impl ConnectionLike + use<>, Away> {
        let mut state = self.state.clone();
        let known = tokio::time::timeout(
            self.timeout,
            state.wait_for(|s| !matches!(s, State::Connecting)),
        )
        .await;
        match known.as_ref().map(|s| s.as_deref()) {
            Ok(Ok(State::Up(connection))) => Ok(connection.clone()),
            Ok(Ok(State::Down(why))) => Err(Away(format!("redis: {why}"))),
            _ => Err(Away("redis: no connection in time".to_owned())),
        }
    }

    fn lost(&self, e: &RedisError) -> Away {
        if e.is_io_error() || e.is_connection_dropped() || e.is_unrecoverable_error() {
            // One message is enough; the task may be at it already.
            let _ = self.broken.try_send(());
        }
        Away(format!("redis: {e}"))
    }
}

async fn keep_connected(
    client: Client,
    settings: AsyncConnectionConfig,
    publish: watch::Sender<State>,
    mut broken: mpsc::Receiver<()>,
) {
    loop {
        match client
            .get_multiplexed_async_connection_with_config(&settings)
            .await
        {
            Ok(connection) => {
                publish.send_replace(State::Up(connection));
                // Word of the connection before this one.
                while broken.try_recv().is_ok() {}
                if broken.recv().await.is_none() {
                    return;
                }
            }
            Err(e) => {
                publish.send_replace(State::Down(e.to_string().into()));
                tokio::time::sleep(PAUSE).await;
                if publish.is_closed() {
                    return;
                }
            }
        }
    }
}

fn info(config: &Redis) -> Result<ConnectionInfo, ConfigError> {
    let host = config.host.clone().filter(|h| !h.is_empty());
    let host = host.ok_or_else(|| ConfigError::new("redis.host", "is needed"))?;
    let port = config.port.unwrap_or(6379);
    let addr = if config.ssl == Some(true) {
        let host = config.server_name.clone().unwrap_or(host);
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: config.ssl_verify != Some(true),
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let bad = |e: RedisError| ConfigError::new("redis", e.to_string());
    let info = "redis://localhost".into_connection_info().map_err(bad)?;
    let mut login = info
        .redis_settings()
        .clone()
        .set_db(config.database.unwrap_or(0));
    if let Some(password) = config.password.as_deref().filter(|p| !p.is_empty()) {
        login = login.set_password(password);
        if let Some(username) = config.username.as_deref().filter(|u| !u.is_empty()) {
            login = login.set_username(username);
        }
    }
    Ok(info.set_addr(addr).set_redis_settings(login))
}

/// Resolves any name to the address of one host: the name in the TLS handshake is not always that of the host.
struct Elsewhere(String);

impl AsyncDNSResolver for Elsewhere {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _name: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((self.0.as_str(), port)).await?;
            Ok(Box::new(found) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}
