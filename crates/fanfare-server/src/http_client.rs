//! Requests to other servers: bounded in time and size, HTTP/1.1, TLS checked against the certificates that the operating
//! system trusts. Redirects are not followed, since what was configured is what is meant.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the look-up of the name to the last byte.
    pub(crate) timeout: Duration,
    pub(crate) body_size_max: usize,
}

/// A client. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// Reads the system's certificates.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new() -> Result<Self, String> {
        let tls = client_tls()?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self(Pool::builder(TokioExecutor::new()).build(connector)))
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    /// Why there is none, without anything of the URL or the answer.
    pub(crate) async fn get(&self, url: &Uri, limits: Limits) -> Result<Bytes, String> {
        let request = Request::get(url).header("accept", "application/json").header("user-agent", "fanfare");
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let (status, body) = self.exchange(request, limits).await?;
        if !status.is_success() {
            return Err(format!("the answer has the status {}", status.as_u16()));
        }
        Ok(body)
    }

    /// The answer to any request, whatever its status, except for a redirect.
    ///
    /// # Errors
    /// Why there is none, without anything of the URL or the answer.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<(StatusCode, Bytes), String> {
        let answer = tokio::time::timeout(limits.timeout, self.ask(request, limits.body_size_max)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", limits.timeout)))
    }

    async fn ask(&self, request: Request<Full<Bytes>>, body_size_max: usize) -> Result<(StatusCode, Bytes), String> {
        let answer = self.0.request(request).await.map_err(|error| explain(&error))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(format!(
                "the answer is a redirect ({}), which is not followed; give its target",
                status.as_u16()
            ));
        }
        match Limited::new(answer.into_body(), body_size_max).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(format!("the answer has more than {body_size_max} bytes"))
            }
            Err(_) => Err("the answer breaks off".into()),
        }
    }
}

/// TLS to other servers, by the certificates that the system trusts.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn client_tls() -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let next = "set SSL_CERT_FILE to a PEM file of them, or install the system's package of CA certificates";
        tracing::warn!(next, "no trusted certificates were found, so that no other server can be asked over TLS");
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("cannot set up TLS for requests to other servers: {error}"))?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

/// The innermost reason: those around it say only that something failed.
fn explain(error: &hyper_util::client::legacy::Error) -> String {
    let mut innermost = error.source();
    while let Some(inner) = innermost.and_then(std::error::Error::source) {
        innermost = Some(inner);
    }
    match innermost {
        Some(inner) => format!("no connection: {inner}"),
        None => error.to_string(),
    }
}
