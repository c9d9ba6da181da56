//! A channel for topics that need no code.

use fanfare_proto::payload::Payload;

use crate::channel::{Channel, Context, Joined, Refused, Reply};
use crate::error::BoxError;

/// Everybody may join, and what a member pushes goes to all members, the sender too, under the same event.
///
/// ```
/// use fanfare::{Mount, Relay};
///
/// let rooms = Mount::rooms().channel("*", Relay);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Relay;

impl Channel for Relay {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Reply, BoxError> {
        match cx.broadcast(event, payload).await {
            Ok(()) => Ok(Reply::empty()),
            Err(error) if error.is_invalid() => Ok(Reply::error(serde_json::json!({ "reason": error.to_string() }))),
            Err(error) => Err(error.into()),
        }
    }
}
