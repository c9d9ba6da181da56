//! `fanfare new channel`: the template is part of this crate's tests, so that it compiles and its own test passes. `fanfare new app`: its program
//! is built and tested as its user would.

use std::process::Command;

use crate::support::{Folder, run};

#[allow(unreachable_pub, reason = "in its own program it is public")]
#[path = "../../templates/greeting.rs"]
mod greeting;

#[test]
fn phoenix_15_a_generator_scaffolds_a_channel_with_its_test() {
    let folder = Folder::new();
    std::fs::write(folder.path("Cargo.toml"), "").unwrap();
    let dir = folder.path("channels");
    let dir = dir.to_str().unwrap();
    let (ok, _, stderr) = run(&["new", "channel", "SupportDesk", "--dir", dir]);
    assert!(ok, "{stderr}");
    for step in ["support_desk.rs", "pub mod support_desk;", "support_desk::SupportDesk", "cargo test support_desk"] {
        assert!(stderr.contains(step), "{step} is not in\n{stderr}");
    }
    let source = std::fs::read_to_string(folder.path("channels/support_desk.rs")).unwrap();
    assert!(source.contains("impl Channel for SupportDesk") && source.contains("#[tokio::test"), "{source}");
    // It is the template that was compiled above, but for the names.
    let template = include_str!("../../templates/greeting.rs");
    assert_eq!(source.replace("support_desk", "greeting").replace("SupportDesk", "Greeting"), template);
    let (ok, _, stderr) = run(&["new", "channel", "support_desk", "--dir", dir]);
    assert!(!ok && stderr.contains("--force"), "{stderr}");
    assert!(run(&["new", "channel", "support_desk", "--dir", dir, "--force"]).0);
}

#[test]
fn a_channel_is_not_made_outside_of_a_crate() {
    let folder = Folder::new();
    let dir = folder.path("src/channels");
    let (ok, _, stderr) = run(&["new", "channel", "room", "--dir", dir.to_str().unwrap()]);
    assert!(!ok && stderr.contains("fanfare new app"), "{stderr}");
    assert!(!folder.path("src").exists());
}

/// With the versions of this repository, so that nothing is fetched, and in a target folder that stays.
#[test]
fn a_new_app_compiles_and_passes_its_test() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folder = Folder::new();
    let made = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(["new", "app", "SupportDesk", "--crate-path", &format!("{root}/crates/fanfare")])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let app = folder.path("support_desk");
    std::fs::copy(format!("{root}/Cargo.lock"), app.join("Cargo.lock")).unwrap();
    let tested = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet", "--target-dir", concat!(env!("CARGO_TARGET_TMPDIR"), "/app")])
        .env("RUSTFLAGS", "-D warnings")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(&app)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
    assert!(tested.status.success() && stdout.contains("4 passed"), "{stdout}\n{stderr}");
    let again = Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(["new", "app", "support-desk"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    assert!(!again.status.success(), "what is there is not overwritten");
}
