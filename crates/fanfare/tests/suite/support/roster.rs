//! Who is present, as a client sees it.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a client does with state and diffs: it keeps diffs until the state has come, then applies them.
#[derive(Default)]
pub(crate) struct Roster {
    pub(crate) present: Option<BTreeMap<String, Vec<String>>>,
    early: Vec<Value>,
}

/// The refs of one key's metas.
pub(crate) fn refs(metas: &Value) -> Vec<String> {
    let metas = metas["metas"].as_array().unwrap();
    metas.iter().map(|meta| meta["phx_ref"].as_str().unwrap().to_owned()).collect()
}

impl Roster {
    pub(crate) fn take(&mut self, event: &str, payload: Value) {
        match (event, &mut self.present) {
            ("presence_state", _) => {
                let state = payload.as_object().unwrap();
                self.present = Some(state.iter().map(|(key, metas)| (key.clone(), refs(metas))).collect());
                for diff in std::mem::take(&mut self.early) {
                    self.take("presence_diff", diff);
                }
            }
            ("presence_diff", None) => self.early.push(payload),
            ("presence_diff", Some(present)) => {
                for (key, metas) in payload["joins"].as_object().unwrap() {
                    let known = present.entry(key.clone()).or_default();
                    for phx_ref in refs(metas) {
                        if !known.contains(&phx_ref) {
                            known.push(phx_ref);
                        }
                    }
                }
                for (key, metas) in payload["leaves"].as_object().unwrap() {
                    let known = present.entry(key.clone()).or_default();
                    known.retain(|known| !refs(metas).contains(known));
                    if known.is_empty() {
                        present.remove(key);
                    }
                }
            }
            _ => {}
        }
    }
}
