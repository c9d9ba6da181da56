//! Invariant 8: secrets appear in no log, metric or error. What could end up in one shows nothing of what it holds.

use fanfare::testing::TestEndpoint;
use fanfare::{
    Connect, ConnectInfoFields, ConnectRequest, Connected, Endpoint, Json, Mount, OriginPattern, OriginPolicy, Payload,
    Rejected,
};
use http::Request;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;

const SECRET: &str = "s3cr3t";

/// Writes down what a log line of the request would show.
struct Logging(Arc<Mutex<String>>);

impl Connect for Logging {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        assert_eq!(request.params.str("token"), Some(SECRET));
        assert_eq!(request.info.x_headers, [("x-key".to_owned(), SECRET.to_owned())]);
        let connected = Connected::new().id("user:1").assigns(SECRET.to_owned());
        *self.0.lock() = format!("{request:?} {:?} {:?} {connected:?}", request.params, request.info);
        Ok(connected)
    }
}

#[tokio::test]
async fn secrets_are_not_shown_of_requests_and_sockets() {
    let shown = Arc::new(Mutex::new(String::new()));
    let fields = ConnectInfoFields { x_headers: true, uri: true, ..ConnectInfoFields::default() };
    let mount = Mount::new()
        .connect(Logging(shown.clone()))
        .connect_info(fields)
        .origin(OriginPolicy::List(vec![OriginPattern::parse("//example.com").unwrap()]));
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", mount)).await;
    let request = Request::get(format!("/socket?vsn=2.0.0&token={SECRET}")).header("x-key", SECRET).body(()).unwrap();
    let socket = test.connect_with(request).await.unwrap();
    let shown = format!("{} {socket:?} {:?}", shown.lock(), test);
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("ConnectRequest") && shown.contains("token") && shown.contains("user:1"), "{shown}");
}

#[test]
fn secrets_are_not_shown_of_payloads() {
    let payloads = [
        Payload::from(json!({ "password": SECRET })),
        Payload::Binary(SECRET.as_bytes().into()),
        Json::from(json!(SECRET)).into(),
    ];
    for payload in payloads {
        let shown = format!("{payload:?}");
        assert!(!shown.contains(SECRET) && shown.contains("bytes"), "{shown}");
    }
}
