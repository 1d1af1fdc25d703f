//! Peer: `pingora-proxy` as it comes, 127.0.0.1:19107 -> the origin. It forwards and limits nothing.
//!
//! It shows what the same host library costs with its own HTTP proxy in place of Tidegate's data plane.

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

/// Sends every request to the origin.
struct Forward;

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(
            "127.0.0.1:19000",
            false,
            String::new(),
        )))
    }
}

fn main() {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(&server.configuration, Forward);
    proxy.add_tcp("127.0.0.1:19107");
    server.add_service(proxy);
    server.run_forever();
}
