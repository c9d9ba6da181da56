//! Requests to other servers: bounded in time and size, HTTP/1.1, TLS checked against the certificates that the operating
//! system trusts. Redirects are not followed, since what was configured is what is meant.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response, StatusCode, Uri, request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// Connections wait so long for their next request: less than back ends commonly keep them, so that none is taken that is
/// about to be closed.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// How many connections wait for their next request, for each host.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// What one request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the look-up of the name to the last byte.
    pub(crate) timeout: Duration,
    pub(crate) body_size_max: usize,
}

/// Why there is no answer, without anything of the URL, of what was sent or of the answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The server was not reached, gave up, or said that the fault is its own.
    Down(String),
    /// It answered, with something else than was asked for.
    Refused(String),
}

impl Failure {
    /// In words.
    pub(crate) fn text(&self) -> &str {
        let (Self::Down(text) | Self::Refused(text)) = self;
        text
    }
}

/// The body of an answer that may go on.
pub(crate) enum Opened {
    Stream(Body),
    /// One that says why it is none.
    Whole(Bytes),
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
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Ok(Self(pool))
    }

    /// The body of a successful answer.
    ///
    /// # Errors
    /// Why there is none, without anything of the URL or the answer.
    pub(crate) async fn get(&self, url: &Uri, limits: Limits) -> Result<Bytes, String> {
        let answer = self.ask(Request::get(url), Bytes::new(), limits).await;
        answer.map_err(|(Failure::Down(text) | Failure::Refused(text))| text)
    }

    /// Sends JSON with more headers: the body of a successful answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn post(
        &self,
        url: &Uri,
        headers: &[(&'static str, String)],
        body: Bytes,
        limits: Limits,
    ) -> Result<Bytes, Failure> {
        let mut request = Request::post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.ask(request, body, limits).await
    }

    async fn ask(&self, request: request::Builder, body: Bytes, limits: Limits) -> Result<Bytes, Failure> {
        let request = request.header("accept", "application/json").header("user-agent", "fanfare");
        let request = request.body(Full::new(body)).map_err(|error| Failure::Refused(error.to_string()))?;
        let (status, body) = self.exchange(request, limits).await?;
        check(status)?;
        Ok(body)
    }

    /// The answer to any request, whatever its status.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.whole(request, limits).await.map(|answer| (answer.status(), answer.into_body()))
    }

    /// The same with the headers of the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn whole(
        &self,
        request: Request<Full<Bytes>>,
        limits: Limits,
    ) -> Result<Response<Bytes>, Failure> {
        let answer = tokio::time::timeout(limits.timeout, self.send(request, limits.body_size_max)).await;
        answer.unwrap_or_else(|_| Err(Failure::Down(format!("no answer within {:?}", limits.timeout))))
    }

    /// The same where a good answer goes on for longer than anybody waits, in this form.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn open(
        &self,
        request: Request<Full<Bytes>>,
        form: &str,
        limits: Limits,
    ) -> Result<(StatusCode, Opened), Failure> {
        let begin = async {
            let answer = self.0.request(request).await.map_err(|error| Failure::Down(explain(&error)))?;
            let status = answer.status();
            let is_asked_for =
                answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == form.as_bytes());
            if status.is_success() && is_asked_for {
                return Ok((status, Opened::Stream(Body::new(answer.into_body()))));
            }
            Ok((status, Opened::Whole(collect(answer.into_body(), limits.body_size_max).await?)))
        };
        let answer = tokio::time::timeout(limits.timeout, begin).await;
        answer.unwrap_or_else(|_| Err(Failure::Down(format!("no answer within {:?}", limits.timeout))))
    }

    async fn send(&self, request: Request<Full<Bytes>>, body_size_max: usize) -> Result<Response<Bytes>, Failure> {
        let answer = self.0.request(request).await.map_err(|error| Failure::Down(explain(&error)))?;
        let (head, body) = answer.into_parts();
        Ok(Response::from_parts(head, collect(body, body_size_max).await?))
    }
}

async fn collect<B>(body: B, body_size_max: usize) -> Result<Bytes, Failure>
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, body_size_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Failure::Refused(format!("the answer has more than {body_size_max} bytes")))
        }
        Err(_) => Err(Failure::Down("the answer breaks off".into())),
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

fn check(status: StatusCode) -> Result<(), Failure> {
    let number = status.as_u16();
    match number {
        200..=299 => Ok(()),
        300..=399 => {
            let text = format!("the answer is a redirect ({number}), which is not followed; give its target");
            Err(Failure::Refused(text))
        }
        500.. => Err(Failure::Down(format!("the answer has the status {number}"))),
        _ => Err(Failure::Refused(format!("the answer has the status {number}"))),
    }
}

/// The innermost reason: those around it say only that something failed.
fn explain(error: &hyper_util::client::legacy::Error) -> String {
    let mut innermost = error.source();
    while let Some(inner) = innermost.and_then(std::error::Error::source) {
        innermost = Some(inner);
    }
    match innermost {
        Some(inner) => {
            let text = inner.to_string();
            let next = if text.contains("UnknownIssuer") {
                "; have the operating system trust the authority that has signed it, or name its file by SSL_CERT_FILE"
            } else {
                ""
            };
            format!("no connection: {text}{next}")
        }
        None => error.to_string(),
    }
}
