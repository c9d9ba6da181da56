//! The files inside the binary: the demo pages of `fanfare dev`, the console, and the JavaScript package
//! `fanfare-resume`. Their sources are in `console/` and `clients/javascript/`.

use axum::Router;
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderName,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;

/// A file that is served.
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

static DEMO: [File; 13] = [
    File { path: "/", content_type: HTML, content: include_bytes!("../pages/demo/index.html") },
    File { path: "/app.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/demo/app.js") },
    File { path: "/app.css", content_type: CSS, content: include_bytes!("../pages/demo/app.css") },
    File { path: "/hub.html", content_type: HTML, content: include_bytes!("../pages/demo/hub.html") },
    File { path: "/hub.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/demo/hub.js") },
    File { path: "/bullet.html", content_type: HTML, content: include_bytes!("../pages/demo/bullet.html") },
    File { path: "/bullet.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/demo/bullet.js") },
    File { path: "/rooms.html", content_type: HTML, content: include_bytes!("../pages/demo/rooms.html") },
    File { path: "/rooms.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/demo/rooms.js") },
    File { path: "/supabase.html", content_type: HTML, content: include_bytes!("../pages/demo/supabase.html") },
    File { path: "/supabase.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/demo/supabase.js") },
    File { path: "/supabase.css", content_type: CSS, content: include_bytes!("../pages/demo/supabase.css") },
    File { path: "/protocols.css", content_type: CSS, content: include_bytes!("../pages/demo/protocols.css") },
];

static CONSOLE: [File; 3] = [
    File { path: "/", content_type: HTML, content: include_bytes!("../pages/console/index.html") },
    File { path: "/console.js", content_type: JAVASCRIPT, content: include_bytes!("../pages/console/console.js") },
    File { path: "/console.css", content_type: CSS, content: include_bytes!("../pages/console/console.css") },
];

/// `fanfare-resume`: a module for pages to import, its types, and the package as npm installs it.
static CLIENT: [File; 3] = [
    File { path: "/fanfare-resume.js", content_type: JAVASCRIPT, content: include_bytes!("../resume/resume.js") },
    File {
        path: "/fanfare-resume.d.ts",
        content_type: "application/typescript; charset=utf-8",
        content: include_bytes!("../resume/resume.d.ts"),
    },
    File {
        path: "/fanfare-resume.tgz",
        content_type: "application/gzip",
        content: include_bytes!("../resume/fanfare-resume.tgz"),
    },
];

/// The lobby, and a page for each of the other protocols.
pub(crate) fn demo<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router(&DEMO, Use::Page)
}

/// The console.
pub(crate) fn console<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router(&CONSOLE, Use::Page)
}

/// `fanfare-resume`.
pub(crate) fn client<S: Clone + Send + Sync + 'static>() -> Router<S> {
    router(&CLIENT, Use::Import)
}

/// What files are for.
#[derive(Debug, Clone, Copy)]
enum Use {
    /// Pages and their parts.
    Page,
    /// Pages of any origin import them, and package managers fetch them.
    Import,
}

fn router<S: Clone + Send + Sync + 'static>(files: &'static [File], used: Use) -> Router<S> {
    files.iter().fold(Router::new(), |router, file| {
        let etag = format!("\"{:016x}\"", fingerprint(file.content));
        router.route(file.path, get(async move |headers: HeaderMap| serve(file, &etag, used, &headers)))
    })
}

fn serve(file: &'static File, etag: &str, used: Use, request: &HeaderMap) -> Response<Body> {
    let is_known = request.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let (status, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, Body::empty()),
        false => (StatusCode::OK, Body::from(file.content)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut set = |name: HeaderName, value: &str| {
        let value = HeaderValue::from_str(value).expect("headers of files are printable ASCII");
        response.headers_mut().insert(name, value);
    };
    set(CONTENT_TYPE, file.content_type);
    set(ETAG, etag);
    // The binary may be another one at the next request: ask again, by the tag.
    set(CACHE_CONTROL, "no-cache");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    match used {
        Use::Page => {
            set(CONTENT_SECURITY_POLICY, &content_security_policy(request.get(HOST)));
            set(X_FRAME_OPTIONS, "DENY");
            set(REFERRER_POLICY, "no-referrer");
        }
        Use::Import => set(ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    }
    response
}

/// Nothing from anywhere else. Not every browser takes `'self'` to include WebSockets, hence the host by name.
fn content_security_policy(host: Option<&HeaderValue>) -> String {
    let is_host = |text: &&str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    let sockets = match host.and_then(|host| host.to_str().ok()).filter(is_host) {
        Some(host) if !host.is_empty() => format!(" ws://{host} wss://{host}"),
        _ => String::new(),
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{sockets}; \
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
            let policy = content_security_policy(host.map(HeaderValue::from_static).as_ref());
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
