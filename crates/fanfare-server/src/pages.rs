//! The pages inside the binary: the demo of `fanfare dev` and the console. Their sources are in `console/`.

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;

/// A file of a page.
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

static DEMO: [File; 10] = [
    File { path: "/", content_type: HTML, content: include_bytes!("../../../console/dist/demo/index.html") },
    File { path: "/app.js", content_type: JAVASCRIPT, content: include_bytes!("../../../console/dist/demo/app.js") },
    File { path: "/app.css", content_type: CSS, content: include_bytes!("../../../console/dist/demo/app.css") },
    File { path: "/hub.html", content_type: HTML, content: include_bytes!("../../../console/dist/demo/hub.html") },
    File { path: "/hub.js", content_type: JAVASCRIPT, content: include_bytes!("../../../console/dist/demo/hub.js") },
    File {
        path: "/bullet.html",
        content_type: HTML,
        content: include_bytes!("../../../console/dist/demo/bullet.html"),
    },
    File {
        path: "/bullet.js",
        content_type: JAVASCRIPT,
        content: include_bytes!("../../../console/dist/demo/bullet.js"),
    },
    File { path: "/rooms.html", content_type: HTML, content: include_bytes!("../../../console/dist/demo/rooms.html") },
    File {
        path: "/rooms.js",
        content_type: JAVASCRIPT,
        content: include_bytes!("../../../console/dist/demo/rooms.js"),
    },
    File {
        path: "/protocols.css",
        content_type: CSS,
        content: include_bytes!("../../../console/dist/demo/protocols.css"),
    },
];

static CONSOLE: [File; 1] =
    [File { path: "/", content_type: HTML, content: include_bytes!("../../../console/dist/console/index.html") }];

/// The lobby, and a page for each of the other protocols.
pub(crate) fn demo<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router(&DEMO, "style-src 'self'")
}

/// The console.
pub(crate) fn console<S: Clone + Send + Sync + 'static>() -> Router<S> {
    // Its style stands in the page itself.
    router(&CONSOLE, "style-src 'self' 'unsafe-inline'")
}

fn router<S: Clone + Send + Sync + 'static>(files: &'static [File], styles: &'static str) -> Router<S> {
    files.iter().fold(Router::new(), |router, file| {
        let etag = format!("\"{:016x}\"", fingerprint(file.content));
        router.route(file.path, get(async move |headers: HeaderMap| serve(file, &etag, styles, &headers)))
    })
}

fn serve(file: &'static File, etag: &str, styles: &str, request: &HeaderMap) -> Response<Body> {
    let is_known = request.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let (status, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, Body::empty()),
        false => (StatusCode::OK, Body::from(file.content)),
    };
    let policy = content_security_policy(styles, request.get(HOST));
    let headers = [
        (CONTENT_TYPE, file.content_type),
        (ETAG, etag),
        // The binary may be another one at the next request: ask again, by the tag.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, &policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("headers of pages are printable ASCII");
        response.headers_mut().insert(name, value);
    }
    response
}

/// Nothing from anywhere else. Not every browser takes `'self'` to include WebSockets, hence the host by name.
fn content_security_policy(styles: &str, host: Option<&HeaderValue>) -> String {
    let is_host = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    let sockets = match host.and_then(|host| host.to_str().ok()).filter(is_host) {
        Some(host) if !host.is_empty() => format!(" ws://{host} wss://{host}"),
        _ => String::new(),
    };
    format!(
        "default-src 'none'; script-src 'self'; {styles}; img-src 'self' data:; connect-src 'self'{sockets}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// FNV-1a: tells versions of a file apart, and needs to do no more.
fn fingerprint(content: &[u8]) -> u64 {
    content.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_host_if_it_is_one() {
        #[track_caller]
        fn check(host: Option<&'static str>, expected: &str) {
            let policy = content_security_policy("style-src 'self'", host.map(HeaderValue::from_static).as_ref());
            assert!(policy.contains(&format!("connect-src 'self'{expected};")), "{policy}");
        }
        check(Some("127.0.0.1:4000"), " ws://127.0.0.1:4000 wss://127.0.0.1:4000");
        check(Some("[::1]:4000"), " ws://[::1]:4000 wss://[::1]:4000");
        check(Some("x; script-src *"), "");
        check(Some(""), "");
        check(None, "");
    }

    #[test]
    fn pages_load_only_files_that_are_there() {
        let pages = DEMO.iter().filter(|file| file.content_type == HTML).map(|page| (&DEMO[..], page.content));
        for (files, page) in pages.chain([(&CONSOLE[..], CONSOLE[0].content)]) {
            let page = std::str::from_utf8(page).unwrap();
            for attribute in ["src=\"", "href=\""] {
                for target in page.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
                    let is_file = files.iter().any(|file| file.path == format!("/{target}"));
                    assert!(
                        is_file || target.starts_with("data:") || target.starts_with("/api/") || target == "./",
                        "{target}"
                    );
                }
            }
        }
    }
}
