//! The endpoint as an axum router.

use axum::Router;
use axum::extract::{Request, State};
use axum::routing::any;
use http::Response;

use crate::body::Body;
use crate::endpoint::Endpoint;

impl Endpoint {
    /// A router that serves every mount: merge it into yours, whatever the state of that, or nest it below a path.
    ///
    /// Clients' addresses are known when the application is served by [`serve`](crate::serve), or by `axum::serve` with
    /// `into_make_service_with_connect_info::<std::net::SocketAddr>()`.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let mut router = Router::new();
        for (path, _) in self.gate().mounts().iter() {
            let path = path.for_axum();
            if !path.is_empty() {
                router = router.route(&path, any(answer));
            }
            router = router.route(&format!("{path}/"), any(answer)).route(&format!("{path}/{{*rest}}"), any(answer));
        }
        router.with_state(self.clone())
    }
}

async fn answer(State(endpoint): State<Endpoint>, request: Request) -> Response<Body> {
    endpoint.call(request).await
}
