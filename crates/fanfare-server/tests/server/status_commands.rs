//! `fanfare top`, `status`, `completions` and `docs man`.

use serde_json::{Value, json};

use crate::support::{Folder, Server, run};

fn lines(server: &Server, args: &[&str]) -> Vec<Value> {
    let output = server.command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_server_is_looked_at_from_a_shell() {
    let server = Server::serve("[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\n");
    let mut client = server.connect("");
    client.join_ok("a");
    client.join_ok("b");
    let top = lines(&server, &["top", "--once", "--every", "1s"]);
    assert_eq!((top.len(), &top[0]["name"], &top[0]["members"]), (2, &json!("a"), &json!(1)));
    let top = lines(&server, &["top", "--by", "addresses", "--once", "--every", "1s", "--limit", "1"]);
    assert_eq!((top.len(), &top[0]["name"], &top[0]["sockets"]), (1, &json!("127.0.0.1"), &json!(1)));
    let status = lines(&server, &["status"]);
    assert_eq!((&status[0]["ready"], &status[0]["overview"]["members"]), (&json!(true), &json!(2)));
    let shards = lines(&server, &["status", "--shards"]);
    assert_eq!((shards.len() as u64, &shards[0]["shard"]), (status[0]["shards"].as_u64().unwrap(), &json!(0)));
}

#[test]
fn completions_and_manual_pages_are_those_of_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (succeeded, script, _) = run(&["completions", shell]);
        assert!(succeeded && script.contains("disconnect") && script.contains("fanfare"), "{shell}");
    }
    let folder = Folder::new();
    let dir = folder.path("man");
    assert!(run(&["docs", "man", dir.to_str().unwrap()]).0);
    let page = std::fs::read_to_string(dir.join("fanfare-tap.1")).unwrap();
    assert!(page.contains("\\-\\-topic"), "{page}");
}
