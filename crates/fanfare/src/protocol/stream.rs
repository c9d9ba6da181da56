//! One topic over plain HTTP: server-sent events for `EventSource`, JSON lines for everybody else.

use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::position::{FOREIGN, Since};
use http::HeaderMap;
use http::header::{ACCEPT, HeaderName};

use super::{Misread, position};
use crate::dialect::Dialect;
use crate::mount::Mount;

impl Mount {
    /// Topics over plain HTTP, read only: `GET <mount>/<topic>`, or `<mount>?topic=<topic>`, for one topic of the mount's
    /// channels, which are joined with the parameters `params[NAME]`.
    ///
    /// A client that accepts `text/event-stream` (`EventSource` does) gets server-sent events, any other JSON lines. Where the
    /// topic keeps a history each message has its position, as the id of an event or the member `position` of a line, and the
    /// client goes on behind the header `Last-Event-ID` or the parameter `since`; the first message is then `joined`, with
    /// `position` and `recovered`. A refused join is a 403 with the channel's response as JSON.
    pub fn stream() -> Self {
        let mut mount = Mount::new();
        mount.dialect = Dialect::Events;
        mount
    }
}

/// What a client of server-sent events has received last.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.split([',', ';']).any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// The topic behind the mount's path: the rest of it, slashes included. `None` where it is not UTF-8.
pub(super) fn topic_of(rest: &[&str], params: &mut Params) -> Option<()> {
    if !rest.is_empty() {
        let segments: Result<Vec<_>, _> = rest.iter().map(|segment| decode_path_segment(segment)).collect();
        params.insert("topic", segments.ok()?.join("/"));
    }
    Some(())
}

/// From where a client wants to go on: what it has received last, or the parameter `since`. The header is sent by browsers, which
/// never come again after a refusal; so whatever it says is taken.
pub(super) fn since(headers: &HeaderMap, params: &Params) -> Result<Since, Misread> {
    match headers.get(LAST_EVENT_ID) {
        Some(id) => Ok(position(id.to_str().unwrap_or("no text")).unwrap_or(Since::Position(FOREIGN))),
        None => position(params.str("since").unwrap_or_default()),
    }
}

/// Whether a client has received events before.
pub(super) fn has_received(headers: &HeaderMap) -> bool {
    headers.get(LAST_EVENT_ID).is_some_and(|id| !id.is_empty())
}
