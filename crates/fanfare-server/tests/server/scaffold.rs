//! `fanfare new channel`: the template is part of this crate's tests, so that it compiles and its own test passes.

use crate::support::{Folder, run};

#[allow(unreachable_pub, reason = "in its own program it is public")]
#[path = "../../templates/greeting.rs"]
mod greeting;

#[test]
fn phoenix_15_a_generator_scaffolds_a_channel_with_its_test() {
    let folder = Folder::new();
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
