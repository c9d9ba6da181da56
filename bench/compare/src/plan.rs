//! Which runs there are, and their order.

use crate::scenario::Scenario;
use crate::server::{Role, Server};

/// One server under one load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) scenario: &'static Scenario,
    pub(crate) server: &'a Server,
    /// Counted from 1.
    pub(crate) round: u32,
}

/// All runs, round by round, so that an early end leaves a whole picture. Within a round the servers of a scenario follow each
/// other, in an order that moves on with each round: none is always measured when the machine is still cold.
pub(crate) fn runs<'a>(
    scenarios: &[&'static Scenario],
    servers: &'a [Server],
    rounds: u32,
    peer_rounds: Option<u32>,
) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for scenario in scenarios.iter().filter(|scenario| round <= scenario.rounds_max) {
            let peer_rounds = peer_rounds.unwrap_or(scenario.peer_rounds);
            let mut turn: Vec<&Server> =
                servers.iter().filter(|s| takes_part(s, scenario, round, peer_rounds)).collect();
            if !turn.is_empty() {
                let shift = (round as usize - 1) % turn.len();
                turn.rotate_left(shift);
            }
            runs.extend(turn.into_iter().map(|server| Run { scenario, server, round }));
        }
    }
    runs
}

fn takes_part(server: &Server, scenario: &Scenario, round: u32, peer_rounds: u32) -> bool {
    match server.role {
        Role::Ceiling | Role::Fanfare => scenario.ours.contains(&&*server.name),
        // A scenario without peers is about Fanfare alone.
        Role::Guest => scenario.ours.len() > 1,
        Role::Peer => round <= peer_rounds && scenario.peer_rounds > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::ALL;
    use crate::server;

    fn names(scenario: &str, rounds: u32, peer_rounds: Option<u32>) -> Vec<String> {
        let scenario = ALL.iter().find(|known| known.name == scenario).unwrap();
        let wanted = ["ceiling", "fanfare", "fanfare-tls", "ws"];
        let mut servers: Vec<Server> = server::all().into_iter().filter(|s| wanted.contains(&&*s.name)).collect();
        servers.push(server::guest("old=phoenix=x {port}").unwrap());
        runs(&[scenario], &servers, rounds, peer_rounds)
            .iter()
            .map(|r| format!("{}{}", r.server.name, r.round))
            .collect()
    }

    #[test]
    fn servers_take_turns() {
        for (scenario, rounds, peer_rounds, expected) in [
            ("fanout-10000-w1", 1, None, "ceiling1 fanfare1 ws1 old1"),
            ("fanout-10000-w1", 2, None, "ceiling1 fanfare1 ws1 old1 fanfare2 old2 ceiling2"),
            ("fanout-10000-w1", 2, Some(2), "ceiling1 fanfare1 ws1 old1 fanfare2 ws2 old2 ceiling2"),
            ("fanout-10000-w1", 1, Some(0), "ceiling1 fanfare1 old1"),
            ("idle-tls", 1, Some(2), "fanfare-tls1"),
            ("idle-tls", 3, None, "fanfare-tls1 fanfare-tls2"),
        ] {
            assert_eq!(names(scenario, rounds, peer_rounds).join(" "), expected, "{scenario} {rounds} {peer_rounds:?}");
        }
    }
}
