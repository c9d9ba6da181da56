//! The thread that asks for the map of slots.

use std::io;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::super::ask::Asker;
use super::super::link::standing;
use super::super::slots::{Address, Map};
use super::super::url::{CLUSTER_TLS, Url};
use super::Router;

/// How often it is asked for while all is well, and while a master is away.
const EVERY: Duration = Duration::from_secs(30);
const EVERY_IN_TROUBLE: Duration = Duration::from_millis(500);

/// Nor more often than this, however often it is wanted.
const LEAST: Duration = Duration::from_millis(50);

/// It runs for as long as the router lives.
pub(super) struct Watch {
    router: Weak<Router>,
    nudges: Receiver<()>,
}

impl Watch {
    pub(super) fn start(router: Weak<Router>, nudges: Receiver<()>) -> io::Result<()> {
        let watch = Watch { router, nudges };
        thread::Builder::new().name("redis-cluster".to_owned()).spawn(move || watch.run())?;
        Ok(())
    }

    fn run(self) {
        let mut told = None;
        loop {
            let Some(router) = self.router.upgrade() else { return };
            let wait = match router.ask_for_map() {
                Ok(()) if router.is_well() => EVERY,
                Ok(()) => EVERY_IN_TROUBLE,
                Err(why) => {
                    if told.as_ref() != Some(&why) {
                        tracing::warn!(why, "the broker does not say which server has what");
                    }
                    router.pulse.is_down(&why.as_str().into());
                    told = Some(why);
                    EVERY_IN_TROUBLE
                }
            };
            drop(router);
            match self.nudges.recv_timeout(wait) {
                Ok(()) => thread::sleep(LEAST),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Router {
    /// Asks for the map, and puts it into force.
    fn ask_for_map(&self) -> Result<(), String> {
        let Url { user, password, .. } = self.maker.seeds[0].clone();
        let (tls, timeout) = (self.maker.tls.clone(), self.maker.timeout);
        let asker = Asker { user, password, tls, timeout, tls_scheme: CLUSTER_TLS, in_words: standing::in_words };
        let mut last = String::new();
        for address in self.who_may_know() {
            let (host, port) = &address;
            let read = |answer: fanfare_proto::resp::Value<'_>| Map::read(answer, host);
            match asker.ask((host, *port), &[b"CLUSTER", b"SLOTS"], read) {
                Ok(map) if self.is_news(&map) => {
                    return self.change(map).map_err(|error| format!("{}: {error}", self.name()));
                }
                Ok(_) => return Ok(()),
                Err(why) => last = format!("redis cluster {host}:{port}: {why}"),
            }
        }
        Err(last)
    }

    /// Masters that are there first, then those that were named, then the others.
    fn who_may_know(&self) -> Vec<Address> {
        let state = self.state.lock();
        let masters = |is_there: bool| {
            let those = state.places.iter().filter(move |(_, place)| place.server.pulse.is_beating() == is_there);
            those.map(|(address, _)| address.clone())
        };
        let seeds = self.maker.seeds.iter().map(|seed| (seed.host.clone(), seed.port));
        masters(true).chain(seeds).chain(masters(false)).collect()
    }

    fn is_well(&self) -> bool {
        self.homeless.lock().is_empty()
            && self.state.lock().places.iter().all(|(_, place)| place.server.pulse.is_beating())
    }
}
