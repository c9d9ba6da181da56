//! The user's back end says who may connect.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Occasion, Refusal, Verified};
use crate::config::auth::Auth;
use crate::config::value::OneOrMore;
use crate::hook::{Answer, Hook, Question, params_without};
use crate::identity::Identity;

/// Asks for every connection, with or without a token.
#[derive(Debug)]
pub(super) struct Asking {
    hook: Arc<Hook>,
    token_size_max: usize,
    /// What else of a request it is told.
    headers: Vec<String>,
    cookies: Vec<String>,
}

impl Asking {
    pub(super) fn new(hook: Arc<Hook>, settings: &Auth) -> Self {
        let names = |list: &Option<OneOrMore<String>>| list.as_ref().map_or_else(Vec::new, |list| list.0.clone());
        Self {
            hook,
            token_size_max: settings.token_size_max.0 as usize,
            headers: names(&settings.headers),
            cookies: names(&settings.cookies),
        }
    }

    /// `param` is what the token is called in the parameters, where the protocol does not say.
    pub(super) async fn check(
        &self,
        token: Option<&str>,
        occasion: &Occasion<'_>,
        param: &str,
    ) -> Result<Verified, Refusal> {
        if token.is_some_and(|token| token.len() > self.token_size_max) {
            return Err("the token is longer than token_size_max".into());
        }
        let request = occasion.request;
        let question = Question::Connect {
            endpoint: occasion.endpoint,
            token,
            params: request
                .map(|request| params_without(&request.params, occasion.param.unwrap_or(param)))
                .unwrap_or_default(),
            headers: named(&self.headers, |name| request.and_then(|request| request.header(name))),
            cookies: named(&self.cookies, |name| request.and_then(|request| request.cookie(name))),
            peer: occasion.peer.map(|peer| peer.ip()),
        };
        let answer = self.hook.ask(&question).await.map_err(|_| Refusal::unavailable("the hook has no answer"))?;
        match &*answer {
            Answer::Yes { claims, expires_at, .. } => {
                Ok(Verified { identity: Identity::new(claims.clone()), expires_at: *expires_at })
            }
            Answer::No { reason: None } => Err("the hook says no".into()),
            Answer::No { reason: Some(reason) } => {
                Err(Refusal::from(format!("the hook says no: {reason}")).telling(reason))
            }
        }
    }
}

/// Those of a list of names that have a value.
fn named<'r>(names: &'r [String], value: impl Fn(&str) -> Option<&'r str>) -> BTreeMap<&'r str, &'r str> {
    names.iter().filter_map(|name| Some((name.as_str(), value(name)?))).collect()
}
