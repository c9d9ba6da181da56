//! What shows a certificate authority that a domain is ours: a certificate for `tls-alpn-01`, an answer for `http-01`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::aws_lc_rs::digest::{SHA256, digest};
use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use fanfare::Endpoint;
use fanfare::serve::{Limits, Server};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::Ordered;
use crate::config::acme::Challenge;

/// Authorities look from a few places at once; all others have nothing to ask here.
const CONNECTIONS_MAX: usize = 64;

/// How long to wait for an address that another process has: the one that this takes over from lets it go.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The certificate that shows it by TLS, of a key authorization (RFC 8737, 3).
pub(super) fn certificate(domain: &str, key_authorization: &str) -> Option<Arc<CertifiedKey>> {
    let digest = digest(&SHA256, key_authorization.as_bytes());
    let mut params = CertificateParams::new([domain.to_owned()]).ok()?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
    let key = KeyPair::generate().ok()?;
    let certificate = params.self_signed(&key).ok()?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // `from_der` compares the two, and does not know the extension that all this is about.
    let key = aws_lc_rs::sign::any_supported_type(&key).ok()?;
    Some(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// Whether what an authority asks can be answered.
#[derive(Debug, Clone)]
pub(super) struct Answering(Arc<ArcSwapOption<String>>);

impl Answering {
    /// Connections by TLS come to the listener for clients.
    pub(super) fn new(challenge: Challenge) -> Self {
        let not_yet =
            (challenge == Challenge::Http).then(|| "the address of http-01 is not listened on yet".to_owned());
        Self(Arc::new(ArcSwapOption::from_pointee(not_yet)))
    }

    /// # Errors
    /// Why not.
    pub(super) fn is_ready(&self) -> Result<(), String> {
        self.0.load_full().map_or(Ok(()), |reason| Err(reason.to_string()))
    }

    /// Answers `http-01`.
    pub(super) async fn forever(self, address: SocketAddr, ordered: Arc<Ordered>, endpoint: Endpoint) -> Infallible {
        let router = Router::new()
            .route("/.well-known/acme-challenge/{token}", get(answer))
            .fallback(async || {
                (StatusCode::NOT_FOUND, "only a certificate authority is answered here; connect by https://\n")
            })
            .with_state(ordered);
        let limits = Limits {
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_MAX,
            handshakes_max: CONNECTIONS_MAX,
            ..Limits::default()
        };
        loop {
            match Server::bind(address).await {
                Ok(server) => {
                    self.0.store(None);
                    let server = server.named("acme").limits(limits);
                    server.serve_app(router.clone(), &endpoint, std::future::pending()).await;
                }
                Err(error) => {
                    self.0.store(Some(Arc::new(format!("http-01: {error}, or change tls.acme.http_listen"))));
                    tokio::time::sleep(LISTEN_AGAIN).await;
                }
            }
        }
    }
}

/// The key authorization for a token of ours (RFC 8555, 8.3).
async fn answer(
    State(ordered): State<Arc<Ordered>>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<String, StatusCode> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let domain = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let found = tokio::task::spawn_blocking(move || ordered.kept.load_full()?.proof(&domain)).await;
    let is_asked_for = |proof: &String| proof.split_once('.').is_some_and(|(own, _)| own == token);
    found.ok().flatten().filter(is_asked_for).ok_or(StatusCode::NOT_FOUND)
}
