//! A client in memory of a [`Lockstep`].

use std::ops::ControlFlow;

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

/// A client in memory, which takes as much as its pipe has room for.
pub(crate) struct Guest {
    pub(crate) peer: Peer,
    pub(crate) pipe: Pipe,
    decoder: Decoder,
}

impl Guest {
    pub(crate) fn connect(lockstep: &mut Lockstep) -> Guest {
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        Guest::at(lockstep, request, Pipe::keeping()).unwrap()
    }

    /// A client that asks for something else, or the status of the refusal.
    pub(crate) fn at(lockstep: &mut Lockstep, request: Request<()>, pipe: Pipe) -> Result<Guest, u16> {
        let peer = lockstep.connect(request, &pipe).map_err(|refused| refused.status())?;
        Ok(Guest { peer, pipe, decoder: Decoder::new(Role::Client) })
    }

    /// Joins with the topic as join_ref, and returns the epoch of the topic's history, if it was told.
    pub(crate) fn join(&mut self, lockstep: &mut Lockstep, topic: &str, params: Value) -> String {
        self.push(lockstep, topic, "phx_join", params);
        lockstep.settle();
        let reply = &self.frames()[0];
        assert_eq!(reply[4]["status"], "ok");
        let position = reply[4]["response"]["resume"]["position"].as_str().unwrap_or_default();
        position.split(':').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn push(&self, lockstep: &mut Lockstep, topic: &str, event: &str, payload: Value) {
        let text = json!([topic, "r", topic, event, payload]).to_string();
        let mut frame = Vec::new();
        encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
        lockstep.send(self.peer, &frame);
    }

    /// The whole frames that have come since the last time; the close code is one as well.
    pub(crate) fn frames(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        let mut sink = |item: Item<'_>| {
            frames.push(match item {
                Item::Text(text) => serde_json::from_str(text).unwrap(),
                Item::Close(code) => json!(code.unwrap()),
                other => panic!("{other:?}"),
            });
            ControlFlow::Continue(())
        };
        let mut bytes = self.pipe.take();
        self.decoder.decode(&mut bytes, &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
        frames
    }
}
