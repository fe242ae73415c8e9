//! nginx: an `upstream` block. A draining endpoint is `down`, which takes no new requests and leaves those in flight.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::name;
use crate::endpoints::pool::Pool;

/// One pool.
pub(super) fn pool(pool: &Pool) -> String {
    let mut text = format!("upstream {} {{\n", name(&pool.id));
    for endpoint in pool.endpoints.iter() {
        let address = SocketAddr::new(endpoint.address, endpoint.port);
        let down = if endpoint.is_ready() { "" } else { " down" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "    server {address} weight={}{down};", endpoint.weight);
    }
    if pool.endpoints.is_empty() {
        // nginx refuses a block without servers.
        text.push_str("    server 127.0.0.1:9 down;\n");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use crate::discovery::formats::tests::sample;
    use crate::endpoints::pool::Pool;

    #[test]
    fn a_pool_is_an_upstream_block() {
        assert_eq!(
            super::pool(&sample("east/shop/checkout/http")),
            "upstream east_shop_checkout_http {\n    server 10.1.2.3:8080 weight=100;\n    server 10.1.2.4:8080 weight=100 down;\n    server [fd00::1]:8080 weight=50;\n}\n"
        );
        let empty = Pool { endpoints: [].into(), ..sample("p") };
        assert_eq!(super::pool(&empty), "upstream p {\n    server 127.0.0.1:9 down;\n}\n");
    }
}
