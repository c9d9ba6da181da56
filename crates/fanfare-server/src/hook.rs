//! A `[hook.NAME]`: the user's own back end, which is asked over HTTP who may connect, join and publish.
//!
//! Whatever is not a clear answer is a no. The address is the configuration's; nothing that a client sends chooses it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::Semaphore;

use fanfare::HeldBack;
use fanfare::metrics::Timings;
use fanfare::trace::{SpanKind, Traced};

use crate::config::hook::Hook as Settings;
use crate::config::url::Url;
use crate::health::{self, Counted, Part, State};
use crate::http_client::{Client, Failure, Limits};
use crate::signature::Signer;

mod answer;
mod breaker;
mod cache;
mod question;

pub(crate) use answer::Answer;
pub(crate) use question::{Carried, Question, params_without};

use answer::Kind;
use breaker::{Breaker, Change};
use cache::Cache;

/// More failures than these in a second are counted rather than logged one by one.
const LINES_PER_SECOND_MAX: u64 = 10;

/// The hooks of a configuration, by name.
pub(crate) type Hooks = BTreeMap<String, Arc<Hook>>;

/// There is no answer; the log has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// Asks one after the other, up to the first that says yes. Where none does, an answer that could not be had may have been
/// one.
pub(crate) async fn ask_any(hooks: &[Arc<Hook>], question: &Question<'_>) -> Result<Arc<Answer>, Unavailable> {
    let mut last = Err(Unavailable);
    for (index, hook) in hooks.iter().enumerate() {
        let answer = hook.ask(question).await;
        if answer.as_ref().is_ok_and(|answer| answer.is_yes()) {
            return answer;
        }
        last = if index == 0 { answer } else { last.and(answer) };
    }
    last
}

/// One back end.
pub(crate) struct Hook {
    name: String,
    url: Url,
    client: Client,
    signer: Signer,
    limits: Limits,
    /// How long answers count: to connects and joins, and to messages.
    kept: Duration,
    kept_message: Duration,
    slots: Semaphore,
    breaker: Mutex<Breaker>,
    cache: Mutex<Cache<Arc<Answer>>>,
    counts: Counts,
    timings: Timings,
    brake: HeldBack,
}

/// What it counts, in this order.
pub(crate) const COUNTED: [Counted; 5] = [
    ("answered", "Questions that were answered."),
    ("cached", "Questions whose answer was still known."),
    ("failed", "Questions without a usable answer in time."),
    ("paused", "Questions that were not asked, because too many before had failed."),
    ("busy", "Questions that were not asked, because `concurrency_max` others were waiting for theirs."),
];

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    cached: AtomicU64,
    failed: AtomicU64,
    spared: AtomicU64,
    busy: AtomicU64,
}

impl Hook {
    /// # Errors
    /// There are no random bytes.
    pub(crate) fn new(name: &str, settings: &Settings, client: Client) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            url: settings.url.clone(),
            client,
            signer: Signer::new(settings.secret.as_ref())?,
            limits: Limits { timeout: settings.timeout.0, body_size_max: settings.answer_size_max.0 as usize },
            kept: settings.cache.0,
            kept_message: settings.cache_message.0,
            slots: Semaphore::new(settings.concurrency_max.0 as usize),
            breaker: Mutex::new(Breaker::new(settings.failures_max.0 as u32, settings.pause.0)),
            cache: Mutex::new(Cache::new(settings.cache_size_max.0 as usize)),
            counts: Counts::default(),
            timings: Timings::new(),
            brake: HeldBack::new(LINES_PER_SECOND_MAX, 1),
        })
    }

    /// Asks, or remembers. Waits for a free place among those who ask for as long as for an answer.
    ///
    /// # Errors
    /// The back end cannot be asked now, or its answer is none.
    pub(crate) async fn ask(&self, question: &Question<'_>) -> Result<Arc<Answer>, Unavailable> {
        let (kind, kept) = match question {
            Question::Connect { .. } => (Kind::Connect, self.kept),
            Question::Join { .. } => (Kind::Join, self.kept),
            Question::Message { .. } => (Kind::Message, self.kept_message),
        };
        let body = question.body().map_err(|reason| self.failed(&reason))?;
        let digest = (!kept.is_zero()).then(|| cache::Question::of(&body));
        if let Some(digest) = &digest
            && let Some(answer) = lock(&self.cache).get(digest, Instant::now())
        {
            count(&self.counts.cached);
            return Ok(answer);
        }
        let answer = self.fetch(body, kind).await?;
        if let Some(digest) = digest
            && answer.1.may_be_kept()
        {
            let own_end = answer.1.expires_at().and_then(|end| end.duration_since(SystemTime::now()).ok());
            let until = Instant::now() + kept.min(own_end.unwrap_or(kept));
            lock(&self.cache).put(digest, answer.1.clone(), answer.0, until);
        }
        Ok(answer.1)
    }

    /// The answer and its size.
    async fn fetch(&self, body: Bytes, kind: Kind) -> Result<(usize, Arc<Answer>), Unavailable> {
        if lock(&self.breaker).is_open(Instant::now()) {
            count(&self.counts.spared);
            return Err(Unavailable);
        }
        let Ok(Ok(_slot)) = tokio::time::timeout(self.limits.timeout, self.slots.acquire()).await else {
            count(&self.counts.busy);
            self.log("concurrency_max requests are under way, and none has ended in time");
            return Err(Unavailable);
        };
        // Those before may have found out in the meantime.
        if !lock(&self.breaker).admit(Instant::now()) {
            count(&self.counts.spared);
            return Err(Unavailable);
        }
        let mut headers = self.signer.headers(&self.signer.id(), SystemTime::now(), &body);
        let mut span = Traced::current().map(|traced| traced.span(SpanKind::Client, format!("hook {}", self.name)));
        headers.extend(span.as_ref().map(|span| ("traceparent", span.within().traceparent())));
        let began = Instant::now();
        let received = self.client.post(&self.url.0, &headers, body, self.limits).await;
        if let (Some(span), Err(failure)) = (&mut span, &received) {
            span.fail(match failure {
                Failure::Down(_) => "unavailable",
                Failure::Refused(_) => "refused",
            });
        }
        drop(span);
        self.timings.observe(began.elapsed());
        let change = match &received {
            // A back end that answers anything is there.
            Ok(_) | Err(Failure::Refused(_)) => lock(&self.breaker).succeeded(),
            Err(Failure::Down(_)) => lock(&self.breaker).failed(Instant::now()),
        };
        self.tell(change);
        let received = received.map_err(|failure| self.failed(failure.text()))?;
        let answer = Answer::parse(&received, kind, SystemTime::now()).map_err(|reason| self.failed(reason))?;
        count(&self.counts.answered);
        Ok((received.len(), Arc::new(answer)))
    }

    fn failed(&self, reason: &str) -> Unavailable {
        count(&self.counts.failed);
        self.log(reason);
        Unavailable
    }

    fn log(&self, reason: &str) {
        if let Some(held_back) = self.brake.pass() {
            let trace_id = Traced::current().map(|traced| traced.trace_id());
            let url = &self.url;
            tracing::warn!(hook = self.name, ?url, reason, held_back, trace_id, "a hook has no answer, which is a no");
        }
    }

    fn tell(&self, change: Change) {
        match change {
            Change::None => {}
            Change::Opened => tracing::warn!(hook = self.name, "the hook is left alone for a while"),
            Change::Closed => tracing::info!(hook = self.name, "the hook answers again"),
        }
    }
}

/// A panic elsewhere leaves both of what is locked here as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Part for Hook {
    fn kind(&self) -> &'static str {
        "hooks"
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// `stale`: the last request failed. `unavailable`: so many did that it is left alone.
    fn state(&self) -> State {
        let breaker = lock(&self.breaker);
        match breaker.failures() {
            _ if breaker.is_tripped() => State::Unavailable,
            0 => State::Ok,
            _ => State::Stale,
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counts { answered, cached, failed, spared, busy } = &self.counts;
        health::numbers(&COUNTED, [answered, cached, failed, spared, busy])
    }

    fn timings(&self) -> Option<&Timings> {
        Some(&self.timings)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}
