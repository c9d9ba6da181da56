//! A shard whose kernel does not tell any more what comes for its sockets ends the process, loudly: otherwise they would hang, new ones
//! would still be given to it, and whoever asks it something would wait for ever.
//!
//! The process is this test binary, with one ignored test, and a library before the system's in which waiting can be made to fail.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::Endpoint;
use serde_json::json;

use crate::support::{PATIENCE, serve, stage};

/// Waiting fails on the threads of shards while there is a file of this name.
const BROKEN: &str = "FANFARE_BROKEN_WAITING";

const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout) {
    int (*real)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");
    int count = real(fd, events, max, timeout);
    char name[32] = "";
    const char *file = getenv("FANFARE_BROKEN_WAITING");
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (file && strncmp(name, "fanfare-", 8) == 0 && access(file, F_OK) == 0) {
        errno = EBADF;
        return -1;
    }
    return count;
}
"#;

/// Publishes to a member, so that its shard wakes up now and then.
#[tokio::test]
#[ignore = "it is ended by the other test"]
async fn the_process_that_ends() {
    if std::env::var(BROKEN).is_err() {
        return;
    }
    let served = serve(Endpoint::builder().shards(1).mount("/socket", stage())).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    println!("\nready");
    loop {
        served.endpoint.broadcast("room:1", "e", json!({})).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_shard_that_cannot_wait_ends_the_process() {
    let dir = std::env::temp_dir().join(format!("fanfare-waiting-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| -> PathBuf { dir.join(name) };
    std::fs::write(path("waiting.c"), LIBRARY).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([path("waiting.so"), path("waiting.c")])
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(compiled.unwrap().success());
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("a_shard_that_cannot_wait_ends_the_process::the_process_that_ends")
        .env("LD_PRELOAD", path("waiting.so"))
        .env(BROKEN, path("broken"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before");
    }
    assert!(process.try_wait().unwrap().is_none(), "nothing is broken yet");
    std::fs::write(path("broken"), "").unwrap();
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        match process.try_wait().unwrap() {
            Some(ended) => break Some(ended),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if ended.is_none() {
        process.kill().unwrap();
    }
    let _ = said.read_to_string(&mut line);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(ended.expect("it does not end").signal(), Some(6), "it aborts");
}
