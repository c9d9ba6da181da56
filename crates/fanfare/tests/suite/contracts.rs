//! What a channel says of itself in types, for documents and for types of clients.
#![cfg(feature = "contract")]

use fanfare::schemars::JsonSchema;
use fanfare::{BoxError, Channel, Context, Contract, Endpoint, Joined, Mount, Refused, Reply};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::serve;

#[derive(Deserialize, JsonSchema)]
#[schemars(crate = "fanfare::schemars")]
struct Hello {
    #[schemars(length(min = 1))]
    name: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(crate = "fanfare::schemars")]
#[serde(rename_all = "lowercase")]
enum Mood {
    Happy,
    Sad,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[schemars(crate = "fanfare::schemars")]
struct NewMsg {
    body: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(crate = "fanfare::schemars")]
struct Told {
    from: String,
    msg: NewMsg,
    mood: Mood,
}

struct Room;

impl Channel for Room {
    type State = String;
    type Params = Hello;
    type Info = ();

    fn contract() -> Contract {
        Contract::new().join::<Hello>().push::<NewMsg>("new_msg").event::<Told>("new_msg")
    }

    async fn join(&self, _: &mut Context, hello: Hello) -> Result<Joined<String>, Refused> {
        Ok(Joined::new(hello.name))
    }

    async fn handle_in(
        &self,
        name: &mut String,
        cx: &mut Context,
        event: &str,
        payload: fanfare::Payload,
    ) -> Result<Reply, BoxError> {
        assert_eq!(event, "new_msg");
        let told =
            Told { from: name.clone(), msg: payload.to()?, mood: if name == "ada" { Mood::Happy } else { Mood::Sad } };
        cx.broadcast("new_msg", told).await?;
        Ok(Reply::empty())
    }
}

struct Other;

impl Channel for Other {
    type State = ();
    type Params = fanfare::Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: fanfare::Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: fanfare::Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }
}

#[tokio::test]
async fn a_channel_says_what_clients_send_and_get() {
    let mount = || Mount::new().channel("room:*", Room).channel("other", Other);
    let served = serve(Endpoint::builder().mount("/socket", mount()).mount("/again", mount())).await;
    let contract = served.endpoint.contract();
    let room = &contract["channels"]["room:*"];
    assert_eq!(contract["fanfare_contract"], 1);
    assert_eq!(
        (&room["join"]["required"], &room["join"]["properties"]["name"]),
        (&json!(["name"]), &json!({"type": "string", "minLength": 1}))
    );
    assert_eq!(room["push"]["new_msg"]["properties"], json!({"body": {"type": "string"}}));
    let on = &room["on"]["new_msg"];
    assert_eq!(on["required"], json!(["from", "msg", "mood"]));
    // Nothing refers to anything else.
    assert_eq!(on["properties"]["msg"]["properties"], json!({"body": {"type": "string"}}));
    assert_eq!(on["properties"]["mood"]["enum"], json!(["happy", "sad"]));
    let other = json!({"join": {"type": "object"}, "push": {}, "on": {}, "replies": true});
    assert_eq!(contract["channels"]["other"], other);

    // What does not fit is refused where it is read.
    let mut client = served.client().await;
    let refused = client.try_join("room:1", json!({"nam": "ada"})).await;
    let reason = refused["response"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("invalid params: missing field `name`"), "{reason}");
    client.try_join("room:1", json!({"name": "ada"})).await;
    let refused = client.call("room:1", "new_msg", json!({"body": 5}), "error").await;
    assert!(refused["reason"].as_str().unwrap().starts_with("invalid payload: "), "{refused}");
}
