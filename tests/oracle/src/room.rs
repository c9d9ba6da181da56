//! The channels that show what a channel can do.

use std::time::Duration;

use fanfare::{
    BoxError, Broadcast, Channel, Context, Ended, Flow, Joined, Payload, Refused, Reply, ReplyHandle, Stop, Transport,
    Version,
};
use serde_json::{Value, json};

use crate::sockets::Assigns;

#[derive(Default)]
pub(crate) struct Room {
    pub from_route: Option<&'static str>,
}

pub(crate) struct Seat {
    join_params: Option<Value>,
}

pub(crate) enum Info {
    AfterJoin,
    Answer(ReplyHandle, Payload),
}

impl Channel for Room {
    type State = Seat;
    type Params = Payload;
    type Info = Info;

    const INTERCEPT: &'static [&'static str] = &["intercepted", "dropped"];

    async fn join(&self, cx: &mut Context<Info>, params: Payload) -> Result<Joined<Seat>, Refused> {
        let joined = Joined::new(Seat { join_params: None });
        match cx.topic() {
            "room:secret" => Err(Refused::reason("unauthorized")),
            "room:crash" => panic!("join crash"),
            "room:badjoin" => Err("not a valid result".into()),
            "room:slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Ok(joined.reply(json!({ "slow": true })))
            }
            "room:noreply" | "room:trap" => Ok(joined),
            "room:pushjoin" => {
                cx.send(Info::AfterJoin)?;
                Ok(joined.reply(json!({ "joined": true })))
            }
            "room:bcastjoin" => {
                cx.broadcast("from_join", json!({})).await?;
                Ok(joined.reply(json!({ "joined": true })))
            }
            "room:listreply" => Ok(joined.reply(json!([1, 2]))),
            "room:binreply" => Ok(joined.reply(Payload::Binary("joinbin".into()))),
            topic => {
                let response = json!({ "topic": topic, "params": value(&params)?, "user": user(cx) });
                Ok(Joined::new(Seat { join_params: Some(value(&params)?) }).reply(response))
            }
        }
    }

    async fn handle_in(
        &self,
        seat: &mut Seat,
        cx: &mut Context<Info>,
        event: &str,
        p: Payload,
    ) -> Result<Reply, BoxError> {
        if let Payload::Binary(data) = &p {
            match event {
                "bin_broadcast" => {
                    cx.broadcast("bin_out", p).await?;
                    return Ok(Reply::none());
                }
                "bin_push" => {
                    cx.push("bin_pushed", p)?;
                    return Ok(Reply::none());
                }
                "bin_len" => return Ok(Reply::ok(json!({ "len": data.len() }))),
                "bin_fail" => return Ok(Reply::error(p)),
                _ => {}
            }
        }
        Ok(match event {
            "new_msg" => {
                cx.broadcast("new_msg", p).await?;
                Reply::none()
            }
            "new_msg_reply" => {
                cx.broadcast("new_msg", p).await?;
                Reply::empty()
            }
            "shout_from" => {
                cx.broadcast_from("shout", p).await?;
                Reply::none()
            }
            "echo" => Reply::ok(p),
            "echo_bare" => Reply::empty(),
            "error_bare" => Reply::error(Payload::default()),
            "custom_status" => Reply::status("accepted_later", p),
            "fail" => Reply::error(json!({ "reason": "nope" })),
            "noreply" | "hib" => Reply::none(),
            "crash" => panic!("boom"),
            "exit_normal" | "exit_shutdown" | "kill" => return Err("the channel ended by itself".into()),
            "stop" => Reply::none().stop(Stop::Normal),
            "stop_shutdown" => Reply::none().stop(Stop::Shutdown),
            "stop_shutdown_tuple" => Reply::none().stop(Stop::ShutdownWith("detail".into())),
            "stop_error" => Reply::none().stop(Stop::Error("some error".into())),
            "stop_reply" => Reply::ok(json!({ "bye": true })).stop(Stop::Normal),
            "stop_error_reply" => Reply::error(json!({ "bye": true })).stop(Stop::Error("some error".into())),
            "push_me" => {
                cx.push("pushed", p)?;
                Reply::none()
            }
            "push_then_reply" => {
                cx.push("pushed", p.clone())?;
                Reply::ok(p)
            }
            "bcast_push_reply" => {
                cx.broadcast("b", p.clone()).await?;
                cx.push("p", p.clone())?;
                cx.broadcast_from("bf", p.clone()).await?;
                Reply::ok(p)
            }
            "async_reply" => {
                cx.send_after(Duration::from_millis(60), Info::Answer(cx.reply_later(), p));
                Reply::none()
            }
            "double_reply" => {
                cx.reply_later().send(Reply::ok(json!({ "n": 1 })))?;
                Reply::ok(p)
            }
            "do_intercept" => {
                cx.broadcast("intercepted", p).await?;
                Reply::none()
            }
            "do_drop" => {
                cx.broadcast("dropped", p).await?;
                Reply::empty()
            }
            "bin_push_json" => {
                cx.push("bin_pushed", compact(&p)?)?;
                Reply::none()
            }
            "bin_reply_json" => Reply::ok(compact(&p)?),
            "reply_list" => Reply::ok(json!([1, 2, 3])),
            "reply_nil" => Reply::ok(Value::Null),
            "push_list" => {
                cx.push("pushed", json!([1]))?;
                Reply::none()
            }
            "bcast_list" => {
                cx.broadcast("pushed", json!([1])).await?;
                Reply::none()
            }
            "type" => Reply::ok(json!({ "inspect": inspect(&p) })),
            "slow" => {
                let ms = value(&p)?.get("ms").and_then(Value::as_u64).unwrap_or(200);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Reply::ok(p)
            }
            "burst" => {
                let n = value(&p)?.get("n").and_then(Value::as_u64).unwrap_or(0);
                for i in 1..=n {
                    cx.push("b", json!({ "i": i }))?;
                }
                Reply::empty()
            }
            "assigns" => Reply::ok(self.describe(seat, cx)),
            "sub_other" => {
                cx.subscribe(text(&p, "topic")?.as_str())?;
                Reply::empty()
            }
            "bcast_other" => {
                let topic = text(&p, "topic")?;
                cx.endpoint().broadcast(&topic, "other", p).await?;
                Reply::empty()
            }
            "unicode" => {
                cx.push("ünï→", p)?;
                Reply::none()
            }
            "fwd_close" => {
                cx.drain_socket();
                Reply::none()
            }
            other => return Err(format!("unknown event {other:?}").into()),
        })
    }

    async fn handle_out(
        &self,
        _: &mut Seat,
        cx: &mut Context<Info>,
        event: &str,
        payload: Payload,
    ) -> Result<Flow, BoxError> {
        if event == "intercepted" {
            let mut payload = value(&payload)?;
            payload["for"] = user(cx);
            cx.push("intercepted", payload)?;
        }
        Ok(Flow::Continue)
    }

    async fn handle_info(&self, _: &mut Seat, cx: &mut Context<Info>, info: Info) -> Result<Flow, BoxError> {
        match info {
            Info::AfterJoin => cx.push("after_join", json!({}))?,
            Info::Answer(handle, payload) => handle.send(Reply::ok(payload))?,
        }
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(&self, _: &mut Seat, cx: &mut Context<Info>, other: Broadcast) -> Result<Flow, BoxError> {
        let payload = value(other.payload())?;
        cx.push("fwd", json!({ "topic": other.topic(), "event": other.event(), "payload": payload }))?;
        Ok(Flow::Continue)
    }

    async fn terminate(&self, _: &mut Seat, cx: &mut Context<Info>, reason: &Ended) {
        if cx.topic() != "room:trap" {
            return;
        }
        let reason = match reason {
            Ended::Left => "{:shutdown, :left}".to_owned(),
            Ended::Closed => "{:shutdown, :closed}".to_owned(),
            Ended::Disconnected => "{:shutdown, :disconnected}".to_owned(),
            Ended::Draining => "{:shutdown, :draining}".to_owned(),
            Ended::DuplicateJoin => "{:shutdown, :duplicate_join}".to_owned(),
            Ended::Stopped(Stop::Normal) => ":normal".to_owned(),
            Ended::Stopped(other) => format!("{other:?}"),
            Ended::Crashed(reason) => reason.clone(),
            other => format!("{other:?}"),
        };
        let message = json!({ "reason": reason, "topic": cx.topic() });
        if let Err(error) = cx.endpoint().broadcast("room:terminations", "terminated", message).await {
            eprintln!("oracle: {error}");
        }
    }
}

impl Room {
    fn describe(&self, seat: &Seat, cx: &Context<Info>) -> Value {
        let mut assigns = cx.assigns::<Assigns>().map_or(json!({}), Assigns::to_json);
        if let Some(params) = &seat.join_params {
            assigns["join_params"] = params.clone();
        }
        if let Some(from_route) = self.from_route {
            assigns["from_route"] = from_route.into();
        }
        let transport = match cx.socket().transport() {
            Transport::LongPoll => "longpoll",
            _ => "websocket",
        };
        let serializer = match cx.socket().version() {
            Version::V1 => "Phoenix.Socket.V1.JSONSerializer",
            Version::V2 => "Phoenix.Socket.V2.JSONSerializer",
        };
        json!({
            "assigns": assigns,
            "transport": transport,
            "topic": cx.topic(),
            "join_ref": cx.join_ref().and_then(|join_ref| serde_json::from_str::<Value>(join_ref).ok()),
            "id": cx.socket().id(),
            "serializer": serializer,
        })
    }
}

/// For load: as little as a channel can do.
pub(crate) struct Bench;

impl Channel for Bench {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, p: Payload) -> Result<Reply, BoxError> {
        match event {
            "new_msg" => cx.broadcast("new_msg", p).await?,
            "from" => cx.broadcast_from("new_msg", p).await?,
            "push" => cx.push("pushed", p)?,
            "echo" => return Ok(Reply::ok(p)),
            other => return Err(format!("unknown event {other:?}").into()),
        }
        Ok(Reply::none())
    }
}

pub(crate) fn user<I>(cx: &Context<I>) -> Value {
    cx.assigns::<Assigns>().and_then(|assigns| assigns.user.as_deref()).into()
}

/// The payload as JSON; binary becomes a list of its bytes.
pub(crate) fn value(payload: &Payload) -> Result<Value, BoxError> {
    match payload {
        Payload::Json(json) => Ok(json.to()?),
        Payload::Text(text) => Ok(json!(text.as_str())),
        Payload::Binary(data) => Ok(json!(data.to_vec())),
    }
}

/// The text of the payload as the client sent it: numbers keep all their digits.
fn inspect(payload: &Payload) -> String {
    match payload {
        Payload::Json(json) => json.as_str().to_owned(),
        Payload::Text(text) => text.as_str().to_owned(),
        Payload::Binary(data) => format!("{data:?}"),
    }
}

fn compact(payload: &Payload) -> Result<Payload, BoxError> {
    Ok(Payload::Binary(value(payload)?.to_string().into_bytes().into()))
}

fn text(payload: &Payload, key: &str) -> Result<String, BoxError> {
    let value = value(payload)?;
    value[key].as_str().map(str::to_owned).ok_or_else(|| format!("the payload has no {key:?}").into())
}
