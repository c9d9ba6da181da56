//! A channel that does what its client says.

use std::sync::Arc;
use std::time::Duration;

use fanfare::{BoxError, Channel, Context, Ended, Error, Flow, Joined, Payload, Refused, Reply, Stop};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Params of a join: `push` (payloads), `refuse` (a reason), `panic`, `fail`, `wait_ms`, `track` (a key), `reply`, `meta`.
/// Events: see [`Stage::handle_in`]. Everything that ends is written down.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    ends: Arc<Mutex<Vec<(String, Ended)>>>,
}

impl Stage {
    /// The topics of the joins that have ended, and why.
    pub(crate) fn ends(&self) -> Vec<(String, Ended)> {
        self.ends.lock().clone()
    }
}

impl Channel for Stage {
    type State = ();
    type Params = Value;
    type Info = (String, Value);

    async fn join(&self, cx: &mut Context<(String, Value)>, params: Value) -> Result<Joined<()>, Refused> {
        for payload in params["push"].as_array().into_iter().flatten() {
            cx.push("pushed", payload.clone())?;
        }
        if let Some(wait_ms) = params["wait_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        if let Some(reason) = params["refuse"].as_str() {
            return Err(Refused::reason(reason));
        }
        if params["panic"] == true {
            panic!("told to panic in join");
        }
        if params["fail"] == true {
            return Err("told to fail in join".into());
        }
        if let Some(key) = params["track"].as_str() {
            // Its own diff would be missed inside of join.
            cx.send((key.to_owned(), params["at"].clone()))?;
        }
        let mut joined = Joined::new(());
        if let Some(reply) = params.get("reply") {
            joined = joined.reply(reply.clone());
        }
        if let Some(meta) = params.get("meta") {
            joined = joined.meta(meta);
        }
        Ok(joined)
    }

    async fn handle_in(
        &self,
        _: &mut (),
        cx: &mut Context<(String, Value)>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        let told: Value = match &payload {
            Payload::Json(json) => json.to()?,
            Payload::Text(text) => json!(text.as_str()),
            Payload::Binary(_) => Value::Null,
        };
        if told["later"] == true {
            // Goes on on the runtime.
            tokio::task::yield_now().await;
        }
        match event {
            "echo" => return Ok(Reply::ok(payload)),
            "silence" => {}
            "shout" => cx.broadcast("shout", payload).await?,
            "shout_others" => cx.broadcast_from("shout", payload).await?,
            "whisper" => cx.push("whisper", payload)?,
            "all_three" => {
                cx.broadcast("broadcast", told.clone()).await?;
                cx.push("push", told)?;
                return Ok(Reply::empty());
            }
            "wait_ms" => {
                tokio::time::sleep(Duration::from_millis(told["ms"].as_u64().unwrap_or_default())).await;
                return Ok(Reply::empty());
            }
            "track" if told["tell"] == true => {
                let tracked = cx.track(told["key"].as_str().unwrap_or_default(), told["meta"].clone()).await;
                let error = tracked.err();
                let is_unavailable = error.as_ref().is_some_and(Error::is_unavailable);
                let error = error.map(|error| error.to_string());
                return Ok(Reply::ok(json!({ "is_unavailable": is_unavailable, "error": error })));
            }
            "track" => drop(cx.track(told["key"].as_str().unwrap_or_default(), told["meta"].clone()).await?),
            "update" => drop(cx.update(told["key"].as_str().unwrap_or_default(), told["meta"].clone()).await?),
            "state" => cx.push_presence_state().await?,
            "untrack" => cx.untrack(told["key"].as_str().unwrap_or_default()).await,
            "fail" => return Err("told to fail".into()),
            "panic" => panic!("told to panic"),
            "stop" => return Ok(Reply::ok(json!({ "last": true })).stop(Stop::Normal)),
            "stop_error" => return Ok(Reply::none().stop(Stop::Error("told to".into()))),
            "drain" => cx.drain_socket(),
            _ => return Err(format!("unknown event {event:?}").into()),
        }
        Ok(Reply::none())
    }

    async fn handle_info(
        &self,
        _: &mut (),
        cx: &mut Context<(String, Value)>,
        (key, at): (String, Value),
    ) -> Result<Flow, BoxError> {
        cx.track(&key, json!({ "at": at })).await?;
        cx.push_presence_state().await?;
        Ok(Flow::Continue)
    }

    async fn terminate(&self, _: &mut (), cx: &mut Context<(String, Value)>, reason: &Ended) {
        self.ends.lock().push((cx.topic().to_owned(), reason.clone()));
    }
}
