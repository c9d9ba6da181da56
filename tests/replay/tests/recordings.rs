//! The recordings themselves: every file is understood as a whole, and is what its name says.

use fanfare_replay::load;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn all_are_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let transcripts = load(&folder).unwrap();
    let names: BTreeSet<String> = transcripts.iter().map(|transcript| transcript.name.clone()).collect();
    assert_eq!(names, files, "a transcript is named like its file");
    assert_eq!(transcripts.len(), files.len());
    assert!(files.iter().any(|name| name.starts_with("ws_")) && files.iter().any(|name| name.starts_with("lp_")));
}

#[test]
fn what_is_missing_is_an_error() {
    let missing = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts/none.json");
    assert!(load(&missing).unwrap_err().to_string().contains("none.json"));
}
