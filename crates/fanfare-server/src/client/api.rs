//! The HTTP API, as its client.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::Value;

use super::{address, escape};
use crate::cli::Settings;
use crate::cli::client::Api as Args;
use crate::config::secret::Secret;
use crate::http_client::{Client, Failure, Limits, Opened};
use crate::terminal;

const DEFAULT: &str = "http://127.0.0.1:4001";

/// Where the token is unless a flag or a configuration says otherwise: where the server has it, too.
const VARIABLE: &str = "FANFARE_ADMIN_TOKEN";

/// A presence or a page of topics can be long; more than this is no answer of ours.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(30), body_size_max: 64_000_000 };

/// The form of answers that go on.
const LINES: &str = "application/x-ndjson";

/// The API of one server.
pub(super) struct Api {
    client: Client,
    /// Its address without a slash at the end.
    base: String,
    authorization: HeaderValue,
}

impl Api {
    /// # Errors
    /// There is no token, or the configuration does not say where the API is.
    pub(super) fn new(args: &Args) -> Result<Self, String> {
        let admin = match &args.config {
            None => None,
            Some(file) => {
                let next = "add it, or give --admin and the token instead of --config";
                let admin = terminal::load(file, Settings::default()).map_err(|report| report.to_string())?.admin;
                Some(admin.ok_or_else(|| format!("{} has no [admin]; {next}", file.display()))?)
            }
        };
        let base = match (&args.admin, &admin) {
            (Some(url), _) => url.0.to_string(),
            (None, Some(admin)) => format!("http://{}", address::of_listener(admin.listen.0, "--admin")?),
            (None, None) => DEFAULT.to_owned(),
        };
        let token = match (&args.admin_token_file, &args.admin_token_env, admin.and_then(|admin| admin.token?.own)) {
            (Some(file), ..) => Secret::from_file(file)?,
            (_, Some(variable), _) => Secret::from_environment(variable)?,
            (_, _, Some(token)) => token,
            _ => Secret::from_environment(VARIABLE).map_err(|error| {
                format!(
                    "no API token: {error}, or give --admin-token-file or --config; `fanfare dev` prints its token unless \
                     it was started with one"
                )
            })?,
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| "the API token has characters that a header cannot have, such as a newline")?;
        authorization.set_sensitive(true);
        Ok(Self { client: Client::new()?, base: base.trim_end_matches('/').to_owned(), authorization })
    }

    /// An answer, which has a member of this name.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn get(&self, path: &str, member: &str) -> Result<Value, String> {
        Ok(self.ask(Method::GET, path, String::new(), member, LIMITS).await?.1)
    }

    /// The same as text.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn text(&self, path: &str, member: &str) -> Result<String, String> {
        let (body, _) = self.ask(Method::GET, path, String::new(), member, LIMITS).await?;
        String::from_utf8(body.into()).map_err(|_| self.strange("it is not UTF-8"))
    }

    /// The answer to a request that does something, which has a member of this name.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn post(&self, path: &str, body: String, member: &str) -> Result<Value, String> {
        Ok(self.ask(Method::POST, path, body, member, LIMITS).await?.1)
    }

    /// The same where it may take so long.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn post_within(&self, timeout: Duration, path: &str, member: &str) -> Result<Value, String> {
        let limits = Limits { timeout, ..LIMITS };
        Ok(self.ask(Method::POST, path, String::new(), member, limits).await?.1)
    }

    /// What to say of an answer that another server must have given.
    pub(super) fn strange(&self, why: &str) -> String {
        format!("{}: this is no answer of Fanfare's HTTP API: {why}; --admin names the API's address", self.base)
    }

    /// An answer that goes on: JSON lines.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn open(&self, path: &str) -> Result<BodyDataStream, String> {
        let mut request = self.request(Method::GET, path, String::new())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(LINES));
        let (status, body) =
            self.client.open(request, LINES, LIMITS).await.map_err(|failure| self.unreachable(&failure))?;
        match body {
            Opened::Stream(body) => Ok(body.into_data_stream()),
            Opened::Whole(body) => match self.judge(status, body) {
                Ok(_) => Err(self.strange("it is not in lines")),
                Err(error) => Err(error),
            },
        }
    }

    fn request(&self, method: Method, path: &str, body: String) -> Result<Request<Full<Bytes>>, String> {
        let base = &self.base;
        Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "fanfare")
            .body(Full::from(Bytes::from(body)))
            .map_err(|error| format!("{base}: {error}"))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        member: &str,
        limits: Limits,
    ) -> Result<(Bytes, Value), String> {
        let request = self.request(method, path, body)?;
        let (status, body) =
            self.client.exchange(request, limits).await.map_err(|failure| self.unreachable(&failure))?;
        let (body, answer) = self.judge(status, body)?;
        match answer.get(member) {
            Some(_) => Ok((body, answer)),
            None => Err(self.strange(&format!("it has no `{member}`"))),
        }
    }

    fn unreachable(&self, failure: &Failure) -> String {
        let (base, error) = (&self.base, failure.text());
        format!(
            "{base}: {error}; is the server running, and is this the address of its HTTP API? --admin names another"
        )
    }

    /// # Errors
    /// What is wrong with an answer.
    fn judge(&self, status: StatusCode, body: Bytes) -> Result<(Bytes, Value), String> {
        let base = &self.base;
        let answer = serde_json::from_slice::<Value>(&body);
        match (status, answer) {
            (status, Ok(answer)) if status.is_success() => Ok((body, answer)),
            (StatusCode::UNAUTHORIZED, _) => Err(format!(
                "{base}: the API does not accept this token; use the server's own, from {VARIABLE}, --admin-token-file or --config"
            )),
            (status, Ok(answer)) if answer["error"]["message"].is_string() => {
                let message = answer["error"]["message"].as_str().unwrap_or_default();
                Err(format!("{base}: {} (status {})", escape::lines(message), status.as_u16()))
            }
            (status, _) => Err(self.strange(&format!("it is no JSON, with the status {}", status.as_u16()))),
        }
    }
}
