//! One order, from the account to the certificate.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use axum::http::header::RETRY_AFTER;
use axum::http::{Request, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::cache::{self, Cache};
use super::schedule::Wish;
use super::{Binding, Served, Settings, blocking};
use crate::config::acme::Challenge;
use crate::http_client::{Client, Failure, Limits};

/// What one request to an authority may take.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(30), body_size_max: 1_000_000 };

/// How often an authority is asked how far it is, where it does not say itself when to ask again.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(100)).backoff(1.5).timeout(Duration::from_secs(120));

/// The type of problem of an account that is gone.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Orders a certificate, which may replace another: its key and its chain in PEM form.
///
/// # Errors
/// Why there is none, in the authority's own words where it has said something.
pub(super) async fn run(
    settings: &Settings,
    cache: &Cache,
    client: &Asking,
    replaced: Option<&Served>,
) -> Result<String, Failure> {
    let proofs = Proofs(cache);
    let identifiers: Vec<Identifier> = settings.domains.iter().cloned().map(Identifier::Dns).collect();
    let account = account(settings, cache, client).await?;
    let mut order = match begin(&account, &identifiers, replaced).await {
        Err(Error::Api(Problem { r#type: Some(problem), .. })) if problem == NO_ACCOUNT => {
            // As when the authority is another one at the same address.
            cache.forget_account();
            begin(&self::account(settings, cache, client).await?, &identifiers, None).await
        }
        order => order,
    }
    .map_err(failure)?;
    show(settings, &proofs, &mut order).await?;
    match order.poll_ready(&POLLING).await {
        Ok(OrderStatus::Ready) => {}
        outcome => return Err(why_not(&mut order, outcome).await),
    }
    let key = order.finalize().await.map_err(failure)?;
    let chain = order.poll_certificate(&POLLING).await.map_err(failure)?;
    Ok(format!("{key}{chain}"))
}

/// An order that is known to replace a certificate, if the authority takes it so: it may not know the old one any more.
async fn begin(account: &Account, identifiers: &[Identifier], replaced: Option<&Served>) -> Result<Order, Error> {
    if let Some(identifier) = replaced.and_then(identifier)
        && let Ok(order) = account.new_order(&NewOrder::new(identifiers).replaces(identifier)).await
    {
        return Ok(order);
    }
    account.new_order(&NewOrder::new(identifiers)).await
}

/// When the authority wants a certificate to be renewed, if it says so.
///
/// # Errors
/// It was not reached, or its answer is none.
pub(super) async fn renewal(
    settings: &Settings,
    cache: &Cache,
    client: &Asking,
    served: &Served,
) -> Result<Option<Wish>, String> {
    let Some(identifier) = identifier(served) else { return Ok(None) };
    let Some(kept) = kept_account(cache).await? else { return Ok(None) };
    let account = Account::builder_with_http(Box::new(Http(client.clone())));
    let account = account.from_credentials(kept.credentials).await.map_err(|error| error.to_string())?;
    let (told, counts) = match account.renewal_info(&identifier).await {
        Ok(told) => told,
        Err(Error::Unsupported(_)) => return Ok(None),
        Err(error) => return Err(format!("{}: {}", settings.directory, failure(error).text())),
    };
    let at = |time| SystemTime::from(time);
    Ok(Some(Wish { from: at(told.suggested_window.start), to: at(told.suggested_window.end), counts }))
}

/// Ours with the authority, which is made if there is none.
async fn account(settings: &Settings, cache: &Cache, client: &Asking) -> Result<Account, Failure> {
    let builder = Account::builder_with_http(Box::new(Http(client.clone())));
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    if let Some(kept) = kept_account(cache).await.map_err(Failure::Down)? {
        let is_same = kept.contact == settings.contact;
        let copy = serde_json::to_vec(&kept.credentials).and_then(|text| serde_json::from_slice(&text));
        let account = builder.from_credentials(kept.credentials).await.map_err(failure)?;
        if !is_same {
            account.update_contacts(&contact).await.map_err(failure)?;
            let credentials = copy.map_err(|error| Failure::Down(error.to_string()))?;
            keep_account(cache, cache::Account { contact: settings.contact.clone(), credentials }).await?;
        }
        return Ok(account);
    }
    let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let binding = settings.binding.as_ref().map(|Binding { kid, key }| ExternalAccountKey::new(kid.clone(), key));
    let made = builder.create(&wanted, settings.directory.clone(), binding.as_ref()).await;
    let (account, credentials) = made.map_err(failure)?;
    keep_account(cache, cache::Account { contact: settings.contact.clone(), credentials }).await?;
    Ok(account)
}

async fn kept_account(cache: &Cache) -> Result<Option<cache::Account>, String> {
    let cache = cache.clone();
    blocking(move || cache.account()).await
}

async fn keep_account(cache: &Cache, account: cache::Account) -> Result<(), Failure> {
    let cache = cache.clone();
    blocking(move || cache.keep_account(&account)).await.map_err(Failure::Down)
}

/// Shows the authority that the domains are ours, and has it look.
async fn show(settings: &Settings, proofs: &Proofs<'_>, order: &mut Order) -> Result<(), Failure> {
    let (challenge, name) = match settings.challenge {
        Challenge::TlsAlpn => (ChallengeType::TlsAlpn01, Challenge::TlsAlpn.name()),
        Challenge::Http => (ChallengeType::Http01, Challenge::Http.name()),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failure)?;
        match authorization.status {
            // It has looked not long ago.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                return Err(Failure::Refused(format!(
                    "{}: the authorization is {status:?}",
                    authorization.identifier()
                )));
            }
        }
        let domain = authorization.identifier().to_string();
        let Some(mut asked) = authorization.challenge(challenge.clone()) else {
            return Err(Failure::Refused(format!(
                "{domain}: the certificate authority does not offer the challenge {name}"
            )));
        };
        proofs.keep(&domain, asked.key_authorization().as_str()).await?;
        asked.set_ready().await.map_err(|error| of(&domain, failure(error)))?;
    }
    Ok(())
}

/// Why an order is not ready: what is said of each domain, or else of the order.
async fn why_not(order: &mut Order, outcome: Result<OrderStatus, Error>) -> Failure {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { break };
        let problems = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(problems.map(|problem| format!("{domain}: {}", words(problem))));
    }
    match outcome {
        _ if !said.is_empty() => Failure::Refused(format!("the certificate authority says: {}", said.join("; "))),
        Ok(status) => Failure::Refused(format!("the certificate authority gives no reason: the order is {status:?}")),
        Err(error) => failure(error),
    }
}

/// What shows that domains are ours, as long as this lives.
struct Proofs<'c>(&'c Cache);

impl Proofs<'_> {
    async fn keep(&self, domain: &str, proof: &str) -> Result<(), Failure> {
        let (cache, domain, proof) = (self.0.clone(), domain.to_owned(), proof.to_owned());
        blocking(move || cache.keep_proof(&domain, &proof)).await.map_err(Failure::Down)
    }
}

impl Drop for Proofs<'_> {
    fn drop(&mut self) {
        self.0.forget_proofs();
    }
}

/// The name of a certificate with its authority (RFC 9773, 4.1), if it has one.
fn identifier(served: &Served) -> Option<CertificateIdentifier<'static>> {
    let certificate = Certificate::from_der(served.key.cert.first()?).ok()?.tbs_certificate;
    let (_, authority) = certificate.get::<AuthorityKeyIdentifier>().ok()??;
    let serial = certificate.serial_number.to_der().ok()?;
    // Without its tag and length, which take a byte each: a serial number has at most 20.
    let (authority, serial) = (authority.key_identifier?, serial.get(2..)?);
    Some(CertificateIdentifier {
        authority_key_identifier: BASE64_URL_SAFE_NO_PAD.encode(authority.as_bytes()).into(),
        serial: BASE64_URL_SAFE_NO_PAD.encode(serial).into(),
    })
}

/// Whether the authority is away, or has refused.
fn failure(error: Error) -> Failure {
    match error {
        Error::Api(problem) => {
            let text = format!("the certificate authority says: {}", words(&problem));
            if problem.status.is_some_and(|status| status >= 500) {
                Failure::Down(text)
            } else {
                Failure::Refused(text)
            }
        }
        Error::Json(_) => {
            Failure::Down("the answer is none of ACME's; is `directory` the address of a directory?".into())
        }
        error => Failure::Down(error.to_string()),
    }
}

fn of(whose: impl Display, failure: Failure) -> Failure {
    match failure {
        Failure::Down(text) => Failure::Down(format!("{whose}: {text}")),
        Failure::Refused(text) => Failure::Refused(format!("{whose}: {text}")),
    }
}

/// An authority's own words.
fn words(problem: &Problem) -> String {
    let text = problem.to_string();
    text.strip_prefix("API error: ").unwrap_or(&text).to_owned()
}

/// Who asks an authority, and what that wants.
pub(super) type Asking = (Client, Pause);

/// For how long an authority wants to be left alone, by the header `Retry-After` of its last answer, if that was a refusal.
#[derive(Debug, Clone, Default)]
pub(super) struct Pause(Arc<ArcSwapOption<Duration>>);

impl Pause {
    pub(super) fn take(&self) -> Option<Duration> {
        self.0.swap(None).map(|pause| *pause)
    }

    fn note(&self, answer: &Response<Bytes>) {
        let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
        let header = answer.headers().get(RETRY_AFTER).filter(|_| is_refusal);
        self.0.store(header.and_then(|header| pause(header.to_str().ok()?)).map(Arc::new));
    }
}

/// What a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date.
fn pause(text: &str) -> Option<Duration> {
    let text = text.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
            SystemTime::from(date).duration_since(SystemTime::now()).ok()
        }
    }
}

/// Our client, as the library wants one.
struct Http(Asking);

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, pause) = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let answer = client.whole(Request::from_parts(head, Full::new(body.to_bytes())), LIMITS).await;
            let answer = answer.map_err(|failure| Error::Other(failure.text().to_owned().into()))?;
            pause.note(&answer);
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_authority_wants_to_be_left_alone_is_read_in_both_forms() {
        for (text, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(pause(text), expected.map(Duration::from_secs), "{text}");
        }
        let left = pause("Fri, 31 Dec 2100 23:59:59 GMT").expect("it is to come");
        assert!(left > Duration::from_secs(86_400 * 365), "{left:?}");
    }
}
