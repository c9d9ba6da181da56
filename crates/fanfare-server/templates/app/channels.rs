//! The channels, and the topics that they serve. `fanfare new channel NAME` adds one.

pub mod room;

use fanfare::Mount;

pub fn mount() -> Mount {
    Mount::new().channel("room:*", room::Room)
}
