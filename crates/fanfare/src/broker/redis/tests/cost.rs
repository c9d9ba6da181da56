//! What a node asks of the server for what it does.

use super::*;

/// How often the server has carried a command out since its statistics were reset.
pub(super) fn calls(service: &Service, command: &str) -> u64 {
    let stats = service.redis(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// All commands that came from clients but those of the clock: the canary's and the looks at how the server stands.
#[test]
fn a_message_is_one_command_however_many_nodes_are_attached() {
    let service = redis_server::start();
    let nodes = [(); 3].map(|()| Node::up(&service));
    for (attached, node) in nodes.iter().enumerate() {
        node.attach("room", true).unwrap();
        service.redis(&["CONFIG", "RESETSTAT"]);
        for _ in 0..100 {
            nodes[0].append("room", "m").unwrap();
        }
        assert_eq!(calls(&service, "evalsha"), 100, "{} nodes", attached + 1);
        // The script's own commands are counted as well, and are within it: the hand-on is one for all nodes.
        let published = calls(&service, "spublish");
        assert!((100..150).contains(&published), "{published}");

        service.redis(&["CONFIG", "RESETSTAT"]);
        for _ in 0..100 {
            answer(|done| nodes[0].redis.publish(&topic("room"), envelope("m"), done)).unwrap();
        }
        let published = calls(&service, "spublish");
        assert!((100..150).contains(&published), "{published}");
        for command in ["evalsha", "get", "publish", "xadd"] {
            assert_eq!(calls(&service, command), 0, "{command}");
        }
    }
}
