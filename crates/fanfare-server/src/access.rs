//! Who may do what over the HTTP API: the tokens that count, and their rights.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use crate::config::secret::Secret;
use crate::config::token::{Right, Tokens};

/// The name of the token with all rights.
const OWN: &str = "admin";

/// What a secret is compared by: nothing of it shows, not even its length.
pub(crate) type Digest = [u8; 32];

/// Several rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rights(u8);

impl Rights {
    /// All of them.
    pub(crate) const ALL: Rights = Rights(u8::MAX);

    fn of(rights: &[Right]) -> Self {
        Self(rights.iter().fold(0, |bits, right| bits | 1 << *right as u8))
    }

    pub(crate) fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        Right::ALL.into_iter().filter(|right| self.has(*right)).map(Right::name).collect()
    }
}

/// A token that counts.
#[derive(Clone)]
pub(crate) struct Access {
    name: Arc<str>,
    pub(crate) digest: Digest,
    rights: Rights,
    /// For whom it publishes.
    tenant: Option<Arc<str>>,
    /// The configuration with which it began to count. One that was away for a while is another one.
    pub(crate) since: u64,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("name", &self.name).field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    /// The name of the token.
    pub(crate) name: Arc<str>,
    pub(crate) rights: Rights,
    /// For whom it publishes, if for somebody in particular.
    pub(crate) tenant: Option<Arc<str>>,
    token: Digest,
    /// The session that the request goes by, if it has one: a digest of its cookie.
    pub(crate) session: Option<Digest>,
}

impl Caller {
    /// Whether the token still counts, with the rights that it had.
    pub(crate) fn still_may(&self, tokens: &[Access]) -> bool {
        Access::find(tokens, &self.token).is_some_and(|access| access.rights == self.rights)
    }
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).field("rights", &self.rights).finish_non_exhaustive()
    }
}

impl Access {
    /// Those that the configuration of this number has, after others; `otherwise` counts where it has none with all rights.
    pub(crate) fn all(
        generation: u64,
        before: &[Self],
        tokens: Option<&Tokens>,
        otherwise: Option<&Secret>,
    ) -> Vec<Self> {
        let own = tokens.and_then(|tokens| tokens.own.as_ref()).or(otherwise);
        let own = own.map(|token| Self::new(OWN, token, Rights::ALL, None));
        let named = tokens.into_iter().flat_map(|tokens| &tokens.named);
        let named = named.filter_map(|named| {
            let (rights, tenant) = (Rights::of(&named.may), named.tenant.as_deref().map(Into::into));
            Some(Self::new(&named.name, named.opened.as_ref()?, rights, tenant))
        });
        let since = |access: &Self| Self::find(before, &access.digest).map_or(generation, |before| before.since);
        own.into_iter().chain(named).map(|access| Self { since: since(&access), ..access }).collect()
    }

    fn new(name: &str, token: &Secret, rights: Rights, tenant: Option<Arc<str>>) -> Self {
        Self { name: name.into(), digest: digest_of(token.expose().as_bytes()), rights, tenant, since: 0 }
    }

    /// The one with this digest.
    pub(crate) fn find<'a>(all: &'a [Self], wanted: &Digest) -> Option<&'a Self> {
        all.iter().find(|access| verify_slices_are_equal(&access.digest, wanted).is_ok())
    }

    pub(crate) fn caller(&self) -> Caller {
        let (name, tenant) = (self.name.clone(), self.tenant.clone());
        Caller { name, rights: self.rights, tenant, token: self.digest, session: None }
    }
}

pub(crate) fn digest_of(secret: &[u8]) -> Digest {
    let mut digested = Digest::default();
    digested.copy_from_slice(digest(&SHA256, secret).as_ref());
    digested
}
