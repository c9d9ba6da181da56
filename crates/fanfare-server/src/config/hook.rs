//! `[hook.NAME]`: a back end that is asked.

use std::path::PathBuf;

use super::secret::Secret;
use super::section::{Form, section};
use super::url::Url;
use super::value::{Count, Size, Span};

section! {
    /// Your own back end, which is asked over HTTP who may connect (`[auth.NAME]` with `kind = "hook"`), join and publish
    /// (the rule `hook:NAME` of a `[[channel]]`). Whatever is not a clear answer refuses: a connection with 503, a join or
    /// message with the reason `unavailable`. What is asked and answered, with examples: `docs/hooks.md`.
    struct Hook: "hook", Form::Named => Once;
    keys {
        /// Where questions are posted. Redirects are not followed.
        url: Url = "" => Once,
        /// Whether `url` may be an `http://` address of another machine, where whoever is on the way can read tokens and let
        /// anybody in.
        allow_http: bool = "false" => Once,
        /// The environment variable that holds the secret with which requests are signed. At most one of the three secret
        /// keys is given; without any, requests are not signed. A secret that begins with `whsec_` is a key in base64.
        secret_env: Option<String> = "" => Once,
        /// The file that holds the secret. A newline at its end does not count.
        secret_file: Option<PathBuf> = "" => Once,
        /// The secret itself. Better kept out of the file: see the two keys above.
        secret: Option<Secret> = "" => Once,
        /// How long one answer may take.
        timeout: Span<10, 60_000> = "\"2s\"" => Once,
        /// How long an answer to a connect or a join counts again when the very same is asked; `"0s"`: it is asked each time.
        /// Answers with a `reply` are not kept.
        cache: Span<0, 3_600_000> = "\"10s\"" => Once,
        /// The same for messages.
        cache_message: Span<0, 3_600_000> = "\"0s\"" => Once,
        /// How much memory kept answers may take; the oldest go first.
        cache_size_max: Size<0, 1_000_000_000> = "\"16MB\"" => Once,
        /// The longest answer that is read.
        answer_size_max: Size<100, 100_000_000> = "\"256KB\"" => Once,
        /// How many requests may be under way. The next one waits, for as long as for an answer.
        concurrency_max: Count<1, 10_000> = "64" => Once,
        /// After so many failures in a row (no connection, no answer in time, a status of 500 or more) nothing is asked for a
        /// `pause`, and everything refused at once.
        failures_max: Count<1, 1_000_000> = "5" => Once,
        /// How long that is. Then one question is asked, and its answer decides.
        pause: Span<100, 3_600_000> = "\"5s\"" => Once,
    }
    later []
}
