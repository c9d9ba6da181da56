//! A build without ACME orders no certificates, and whoever asks for one is told so.

use std::convert::Infallible;
use std::sync::Arc;

use fanfare::Endpoint;
use rustls::sign::CertifiedKey;

use super::Served;
use crate::config::acme::Acme;
use crate::health::{Counted, Part, State};

pub(super) const ALPN: &[u8] = b"acme-tls/1";

pub(crate) const COUNTED: [Counted; 0] = [];

/// Never made.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings(Infallible);

impl Settings {
    pub(crate) fn new(_: &Acme) -> Result<Self, String> {
        Err("[tls.acme]: this build has no ACME: build it with the cargo feature `acme`".into())
    }
}

/// Never anything.
#[derive(Debug)]
pub(crate) struct Ordered;

impl Ordered {
    pub(crate) fn new(_: Option<&Settings>) -> Self {
        Self
    }

    pub(crate) fn replace(&self, _: Option<&Settings>) {}

    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        None
    }

    pub(crate) fn is_wanted(&self) -> bool {
        false
    }

    pub(crate) fn proof(&self, _: &str) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl Part for Ordered {
    fn kind(&self) -> &'static str {
        "certificates"
    }

    fn name(&self) -> &str {
        "acme"
    }

    fn state(&self) -> State {
        State::Ok
    }
}

/// Never made.
#[derive(Debug)]
pub(crate) struct Driver(Settings);

impl Driver {
    pub(crate) fn resting(settings: Settings) -> Self {
        Self(settings)
    }

    pub(crate) fn running(self, _: Option<Self>, _: &Arc<Ordered>, _: &Endpoint) -> Self {
        match self.0.0 {}
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0
    }
}
