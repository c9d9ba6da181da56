//! The channels that show presence: plain, and with a fetch hook.

use fanfare::{
    BoxError, Broadcast, Change, Channel, Context, Endpoint, Extras, Flow, Joined, Payload, PresenceHooks, Presences,
    Refused, Reply,
};
use serde_json::{Value, json};

use crate::room::{user, value};

pub(crate) struct PresenceRoom {
    /// Whether it follows the changes that [`Names`] tells.
    pub names: bool,
}

pub(crate) struct Seat {
    key: String,
    meta: Value,
}

pub(crate) struct AfterJoin;

impl Channel for PresenceRoom {
    type State = Seat;
    type Params = Payload;
    type Info = AfterJoin;

    async fn join(&self, cx: &mut Context<AfterJoin>, params: Payload) -> Result<Joined<Seat>, Refused> {
        let params = value(&params)?;
        let key =
            params["key"].as_str().map_or_else(|| user(cx).as_str().unwrap_or_default().to_owned(), str::to_owned);
        let meta = params.get("meta").cloned().unwrap_or(json!({}));
        if self.names {
            let changes = changes_topic(cx.topic());
            cx.subscribe(&changes)?;
        }
        cx.send(AfterJoin)?;
        Ok(Joined::new(Seat { key, meta }))
    }

    async fn handle_in(
        &self,
        seat: &mut Seat,
        cx: &mut Context<AfterJoin>,
        event: &str,
        p: Payload,
    ) -> Result<Reply, BoxError> {
        let p = value(&p)?;
        Ok(match event {
            "list" => Reply::ok(cx.presences().await),
            _ if self.names => return Err(format!("unknown event {event:?}").into()),
            "update" => Reply::ok(json!({ "ref": cx.update(&seat.key, p).await? })),
            "update_fn" => {
                let with_n = |mut meta: serde_json::Map<String, Value>| {
                    meta.insert("n".into(), 1.into());
                    meta
                };
                Reply::ok(json!({ "ref": cx.update_with(&seat.key, with_n).await? }))
            }
            "untrack" => {
                cx.untrack(&seat.key).await;
                Reply::empty()
            }
            "track" => {
                let tracked = cx.track(p["key"].as_str().unwrap_or_default(), &p["meta"]).await;
                let result = tracked.map_or_else(|error| error.to_string(), |phx_ref| format!("ok {phx_ref}"));
                Reply::ok(json!({ "r": result }))
            }
            "get" => {
                let metas: Value = cx.presences_of(p["key"].as_str().unwrap_or_default()).await.to()?;
                let is_absent = metas.as_array().is_none_or(Vec::is_empty);
                Reply::ok(json!({ "r": if is_absent { json!([]) } else { json!({ "metas": metas }) } }))
            }
            other => return Err(format!("unknown event {other:?}").into()),
        })
    }

    async fn handle_info(&self, seat: &mut Seat, cx: &mut Context<AfterJoin>, _: AfterJoin) -> Result<Flow, BoxError> {
        cx.track(&seat.key, &seat.meta).await?;
        cx.push_presence_state().await?;
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(
        &self,
        _: &mut Seat,
        cx: &mut Context<AfterJoin>,
        change: Broadcast,
    ) -> Result<Flow, BoxError> {
        cx.push("metas", change.payload().clone())?;
        Ok(Flow::Continue)
    }
}

/// Gives everybody a name, and tells the topic's channels of every change.
pub(crate) struct Names;

impl PresenceHooks for Names {
    async fn fetch(&self, _topic: &str, keys: Vec<String>) -> Extras {
        let named = |key: String| {
            let Value::Object(extra) = json!({ "user": { "name": format!("name-{key}") } }) else { unreachable!() };
            (key, extra)
        };
        keys.into_iter().map(named).collect()
    }

    async fn handle_metas(&self, endpoint: &Endpoint, topic: &str, change: Change) {
        let keys = |presences: &Presences| presences.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
        let (joins, leaves, now) = (keys(&change.joins), keys(&change.leaves), keys(&change.present));
        let message = json!({ "joins": joins, "leaves": leaves, "now": now });
        if let Err(error) = endpoint.broadcast(&changes_topic(topic), "metas", message).await {
            eprintln!("oracle: {error}");
        }
    }
}

fn changes_topic(topic: &str) -> String {
    format!("changes:{topic}")
}
