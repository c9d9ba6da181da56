//! What a mount of Supabase's clients is set to, and what its parts ask of the authority.

use std::fmt;
use std::sync::Arc;

use fanfare_proto::params::decode_path_segment;

use super::{AnyAuthority, Authority, Bearer, ChangedRow, Rights, RightsRequest, TokenFault};

/// Options of [`Mount::supabase`](crate::Mount::supabase).
pub struct Supabase(pub(crate) Settings);

/// The same, settled.
pub(crate) struct Settings {
    authority: Arc<dyn AnyAuthority>,
    pub(crate) private_only: bool,
    pub(crate) closes_expired: bool,
    pub(crate) refuses_changes: bool,
    /// Of which changes are served: schema and table.
    pub(crate) tables: Vec<(String, String)>,
    pub(crate) replay_max: usize,
    pub(crate) payload_size_max: usize,
}

/// The settings of a mount that has some.
pub(crate) type AuthorityRef = Arc<Settings>;

/// What is asked about a channel.
pub(crate) type Asked<'a> = RightsRequest<'a>;

impl Supabase {
    /// Whose tokens count.
    pub fn new(authority: impl Authority) -> Self {
        Supabase(Settings {
            authority: Arc::new(authority),
            private_only: false,
            closes_expired: false,
            refuses_changes: false,
            tables: Vec::new(),
            replay_max: 25,
            payload_size_max: 3_000_000,
        })
    }

    /// Whether there are private channels only. Default: no.
    pub fn private_only(mut self, on: bool) -> Self {
        self.0.private_only = on;
        self
    }

    /// Whether a channel whose token has expired is closed for good, as Supabase closes it. Default: no, the client joins again with
    /// its newest token.
    pub fn closes_expired(mut self, on: bool) -> Self {
        self.0.closes_expired = on;
        self
    }

    /// Whether a join that asks for changes of a database is refused where no [`tables`](Supabase::tables) are served. Default: no, it is told once that they are not.
    pub fn refuses_changes(mut self, on: bool) -> Self {
        self.0.refuses_changes = on;
        self
    }

    /// The tables of which changes are served, each with its schema, to those who may
    /// [see](crate::Authority::may_see) the row. A change is what is published on the topic
    /// `postgres_changes:SCHEMA:TABLE`. Default: none.
    pub fn tables<S: Into<String>>(mut self, tables: impl IntoIterator<Item = (S, S)>) -> Self {
        self.0.tables = tables.into_iter().map(|(schema, table)| (schema.into(), table.into())).collect();
        self
    }

    /// How many kept messages a join can ask for. Default 25.
    pub fn replay_max(mut self, messages: usize) -> Self {
        self.0.replay_max = messages;
        self
    }

    /// The largest payload of a broadcast. Default 3,000,000 bytes.
    pub fn payload_size_max(mut self, bytes: usize) -> Self {
        self.0.payload_size_max = bytes;
        self
    }
}

impl fmt::Debug for Supabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supabase")
    }
}

impl Settings {
    /// Whom a token names that is good still.
    pub(crate) async fn verify(&self, token: &str) -> Result<Bearer, TokenFault> {
        let token = cleaned(token);
        if token.is_empty() {
            return Err(TokenFault::Missing);
        }
        self.authority.verify(&token).await?.current()
    }

    pub(crate) async fn rights(&self, asked: Asked<'_>) -> Rights {
        self.authority.rights(asked).await
    }

    pub(crate) fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool {
        self.authority.may_see(bearer, row)
    }

    pub(crate) fn are_changes_coming(&self) -> bool {
        self.authority.are_changes_coming()
    }
}

/// A token as it was meant: some clients encode it once more, or break its lines.
fn cleaned(token: &str) -> String {
    let token = decode_path_segment(token).unwrap_or(token.into());
    token.chars().filter(|char| !char.is_whitespace()).collect()
}
