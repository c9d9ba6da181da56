//! The rows that there are. Their numbers are those of docs/reliability.md.

mod bodies;
mod descriptors;
mod disk;
mod drops;
mod flood;
mod mutated;
mod panics;
mod rest;
mod restart;
mod stalled;
mod upgrades;
mod vanished;

use crate::{Finding, Setting};

/// A check, and its line in docs/reliability.md.
pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    /// In full size.
    #[cfg_attr(not(test), expect(dead_code, reason = "the guide's"))]
    happens: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "the guide's"))]
    bars: &'static str,
    /// An error is a failure that left nothing to measure.
    pub(crate) check: fn(&Setting) -> Result<Finding, String>,
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        number: 3,
        what: "one stalled reader among many",
        happens: "one of 10,000 subscribers stops reading: its buffers are full in both kernels, and all that comes \
                  piles up for it",
        bars: "the others lose nothing, and their p99 is at most 1.1 times that of runs without it; it is closed \
                  within 10 s (`limits.write_timeout`, and half a second to fill the buffers); flooded, it has at most \
                  `limits.outbox_bytes_max` waiting, and the process grows by at most half as much again",
        check: stalled::one,
    },
    Row {
        number: 4,
        what: "ten stalled readers under full load",
        happens: "ten of 10,000 stop reading while the server does as much as it can",
        bars: "the others' throughput falls by at most 5 %, by the clock and for each second of the server's CPU \
                  time; they lose nothing",
        check: stalled::ten,
    },
    Row {
        number: 5,
        what: "a drain under many clients",
        happens: "SIGTERM under 10,000 clients on topics with a history on disk, while a publisher repeats what is not \
                  answered; they come back as phoenix.js does and resume",
        bars: "all are closed with 1012 within `drain`; each gets every number once and in order",
        check: restart::drained,
    },
    Row {
        number: 10,
        what: "mutated frames, connects and drops",
        happens: "1,000,000 broken frames: messages of Phoenix (1.0.0, 2.0.0, binary), rooms, hub and bullet.js, and \
                  the headers of WebSocket frames around them; then 1,000,000 connections that are dropped in the \
                  midst of a request, an upgrade, a frame or a join, with a reset or without",
        bars: "no panic, no frame without an end; memory at rest grows by at most 2 % from the first 100,000 to the \
                  last; all descriptors are given back",
        check: hostile,
    },
    Row {
        number: 13,
        what: "a channel that panics",
        happens: "a channel panics 10,000 times: in `join`, `handle_in` (at once and after a wait), `handle_out`, \
                  `handle_info`",
        bars: "each panic ends one join; sockets, their other topics, and the other members of the same topic get \
                  every numbered message once and in order",
        check: panics::check,
    },
    Row {
        number: 14,
        what: "many clients that reconnect at once",
        happens: "the same as row 5 with `kill -9`, so that all come back at once, by API keys of a database",
        bars: "all are back within 5 s of the new server's start; each gets every number once and in order; each \
                  key is read from the database once",
        check: restart::storm,
    },
    Row {
        number: 18,
        what: "publishers that flood",
        happens: "two publishers send requests of 1,000 messages as fast as they can, and then a member pushes as fast \
                  as it can, to 200 members who read nothing",
        bars: "the process has at most 150 MiB; a client of another topic is answered each heartbeat within 100 ms, \
                  and so is `GET /api/topics`",
        check: flood::check,
    },
    Row {
        number: 19,
        what: "bodies of strangers",
        happens: "60 connections without a token send nearly all of a body of 8 MB: to long-polling, to bullet.js and \
                  to the HTTP API; one more declares a length that no server takes",
        bars: "the process grows by at most 16 MiB; all are refused within 15 s, the last one within 2 s",
        check: bodies::check,
    },
    Row {
        number: 20,
        what: "no descriptors left",
        happens: "400 connections to a server that may have 200 descriptors",
        bars: "every request to the health report and to the HTTP API is answered within a second, and a member \
                  that was there is served; the log has at most ten lines about it and two more a second; new clients are served \
                  within 10 s of the others' end",
        check: descriptors::check,
    },
    Row {
        number: 21,
        what: "clients that vanished",
        happens: "clients of Phoenix, rooms, server-sent events and JSON lines vanish without an end of their connections, \
                  each on a topic with messages and on one without; `idle_timeout` is 4 s, `limits.vanished_timeout` 5 s",
        bars: "all are gone from the counts after once the former and twice the latter",
        check: vanished::check,
    },
    Row {
        number: 22,
        what: "a full disk",
        happens: "the disk below the histories is full, for publishers of the HTTP API and for a stream of Redis",
        bars: "what was acknowledged is there, and nothing else; publishers are answered 503; the stream's entries \
                  are neither acknowledged nor parked; the health report says that something is wrong; all goes on \
                  within 15 s of there being room",
        check: disk::check,
    },
    Row {
        number: 23,
        what: "upgrades under a stream of connects",
        happens: "four processes take over, one from the other, while strangers connect at 2,000 a second, a publisher repeats \
                  what is not answered, and 1,000 clients on topics with a history on disk come back and resume",
        bars: "no connect is refused, and none waits for more than 3 s; each client gets every number once and in order",
        check: upgrades::check,
    },
];

/// Row 10 has two halves.
fn hostile(setting: &Setting) -> Result<Finding, String> {
    let (frames, drops) = (mutated::check(setting)?, drops::check(setting)?);
    let figures = frames.figures.into_iter().chain(drops.figures).collect();
    Ok(Finding { size: format!("{}; {}", frames.size, drops.size), figures })
}

#[cfg(test)]
mod tests {
    use fanfare_tables::Table;

    use super::ROWS;

    #[test]
    fn rows_stand_in_the_guide() {
        let mut table = Table::new(&["row", "what happens", "bars"]);
        for row in ROWS {
            table.row(&[&row.number.to_string(), row.happens, row.bars]);
        }
        table.check("reliability.md", "rows");
    }
}
