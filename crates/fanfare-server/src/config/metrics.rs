//! `[metrics]`: a listener for Prometheus.

use super::section::{Form, section};
use super::value::{Address, Count};

section! {
    /// Opens one more listener, with nothing but `/metrics`, `/livez` and `/readyz`, for Prometheus and for probes. None of them
    /// needs a token, so that it is to be reachable by those only. The admin listener has all three as well, `/metrics` with its
    /// token.
    struct Metrics: "metrics", Form::Table;
    keys {
        /// The address of the listener, such as `"0.0.0.0:9464"`.
        listen: Address = "",
        /// How many connections this listener holds. The next one is answered 503 and closed.
        connections_max: Count<1, 100_000> = "64",
    }
    later []
}
