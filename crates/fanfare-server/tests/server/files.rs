//! The files inside the binary: `fanfare-resume`, which every server has for its clients.

use crate::support::Server;

/// A file, its type, and what it has to be.
const FILES: [(&str, &str, &[u8]); 3] = [
    (
        "/fanfare-resume.js",
        "text/javascript; charset=utf-8",
        include_bytes!("../../../../clients/javascript/resume.js"),
    ),
    (
        "/fanfare-resume.d.ts",
        "application/typescript; charset=utf-8",
        include_bytes!("../../../../clients/javascript/resume.d.ts"),
    ),
    (
        "/fanfare-resume.tgz",
        "application/gzip",
        include_bytes!("../../../../clients/javascript/dist/fanfare-resume.tgz"),
    ),
];

#[test]
fn every_server_has_the_package_for_its_clients() {
    for server in [Server::dev(), Server::serve("")] {
        for (path, content_type, content) in FILES {
            let answer = server.http("HEAD", path, &[("origin", "https://elsewhere.example")], "");
            let header = |name: &str| answer.headers.get(name).map(String::as_str);
            assert_eq!((answer.status, header("content-type")), (200, Some(content_type)), "{path}");
            assert_eq!(header("access-control-allow-origin"), Some("*"), "pages of any origin import {path}");
            assert_eq!(header("content-length"), Some(&*content.len().to_string()), "{path}");
            let etag = header("etag").unwrap();
            assert_eq!(server.http("GET", path, &[("if-none-match", etag)], "").status, 304, "{path}");
        }
        let (path, _, content) = FILES[0];
        assert_eq!(server.http("GET", path, &[], "").body.as_bytes(), content);
    }
}

#[test]
fn a_path_of_the_package_can_be_that_of_an_endpoint() {
    let server = Server::serve("[[endpoint]]\npath = '/fanfare-resume.js'\n[[channel]]\ntopic = '*'\njoin = 'open'\n");
    let mut client = server.upgrade("/fanfare-resume.js?vsn=2.0.0", &[]).unwrap();
    client.join_ok("room:1");
    assert_eq!(server.http("GET", "/fanfare-resume.d.ts", &[], "").status, 200);
}
