//! In which order the patterns of channels are tried, and which topics are kept apart from them: those of hubs and of
//! bullet.js clients are not reached by a bare `*`, but only by a pattern that names them.

use fanfare::{BoxError, Channel, Context, Joined, Pattern, Payload, Refused, Reply};

use crate::config::endpoint::{Endpoint, Protocol};

/// A pattern, and the channel that serves it; none where the topics are kept apart.
pub(crate) type Route<C> = (Pattern, Option<C>);

/// The patterns of channels in the order in which they are to be tried. In front of a bare `*` are those that name topics
/// kept apart, wherever they stand, and then these topics without a channel.
pub(crate) fn routes<'c, C: Clone>(
    channels: impl Iterator<Item = (&'c Pattern, C)>,
    endpoints: &[Endpoint],
) -> Vec<Route<C>> {
    let mut routes: Vec<Route<C>> = channels.map(|(pattern, channel)| (pattern.clone(), Some(channel))).collect();
    let Some(bare) = routes.iter().position(|(pattern, _)| pattern.to_string() == "*") else { return routes };
    let apart = apart(endpoints);
    let mut behind = routes.split_off(bare);
    let is_named = |(pattern, _): &Route<C>| apart.iter().any(|apart| apart.matches(&pattern.to_string()));
    routes.extend(behind.extract_if(.., |route| is_named(route)));
    routes.extend(apart.iter().map(|pattern| (pattern.clone(), None)));
    routes.append(&mut behind);
    routes
}

/// All topics that somebody can be in: those of channels, and those of other protocols.
pub(crate) fn known<'c>(channels: impl Iterator<Item = &'c Pattern>, endpoints: &[Endpoint]) -> Vec<Pattern> {
    let mut known: Vec<Pattern> = channels.cloned().collect();
    let more: Vec<_> = apart(endpoints).into_iter().filter(|pattern| !known.contains(pattern)).collect();
    known.extend(more);
    known
}

/// The topics of other protocols, as far as they begin with something that can be told.
fn apart(endpoints: &[Endpoint]) -> Vec<Pattern> {
    let topics = endpoints.iter().flat_map(|endpoint| match endpoint.protocol {
        Protocol::Hub => vec![format!("{}*", endpoint.topic_prefix)],
        Protocol::Bullet => {
            let of = |template: &crate::config::template::Template| match template.names().next() {
                Some(_) => format!("{}*", template.prefix()),
                None => template.prefix().to_owned(),
            };
            endpoint.topics.0.iter().map(of).collect()
        }
        Protocol::Supabase => vec!["realtime:*".to_owned(), "private-realtime:*".to_owned()],
        Protocol::Phoenix | Protocol::Rooms | Protocol::Sse => Vec::new(),
    });
    topics.filter(|pattern| pattern != "*").filter_map(|pattern| Pattern::parse(&pattern).ok()).collect()
}

/// What serves topics that are kept apart: nobody joins them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apart;

impl Channel for Apart {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        // As where no channel fits.
        let why = "topics of hub, bullet and supabase endpoints are not reached by a bare `*`: name them in a [[channel]] of their own";
        Err(Refused::reason("unmatched topic").because(why))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::preflight;

    /// The routes for endpoints and patterns, as `pattern` or `!pattern` where it is kept apart.
    #[track_caller]
    fn check(endpoints: &str, patterns: &[&str], expected: &[&str]) {
        let config = preflight::parse("f", endpoints, &Overrides::default()).unwrap();
        let patterns: Vec<Pattern> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let routes = routes(patterns.iter().map(|pattern| (pattern, ())), &config.endpoints);
        let shown =
            routes.iter().map(|(pattern, channel)| format!("{}{pattern}", if channel.is_none() { "!" } else { "" }));
        assert_eq!(shown.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_bare_star_does_not_reach_topics_of_other_protocols() {
        let hub = "[[endpoint]]\nprotocol = 'hub'\nauth = 'none'\n";
        let bullet = "[[endpoint]]\npath = '/b'\nprotocol = 'bullet'\nauth = 'none'\n";
        check("", &["a", "*", "b"], &["a", "*", "b"]);
        check(hub, &["a", "hub*"], &["a", "hub*"]);
        check(hub, &["a", "*", "b"], &["a", "!hub:*", "*", "b"]);
        check(hub, &["*", "b", "hub:*", "hub:x"], &["hub:*", "hub:x", "!hub:*", "*", "b"]);
        check(&format!("{hub}topic_prefix = 'h/'\n{bullet}"), &["*"], &["!h/*", "!bridge:*", "!bridge", "*"]);
        check(&format!("{bullet}topics = ['{{key}}', 'all']"), &["*", "all"], &["all", "!all", "*"]);
    }
}
