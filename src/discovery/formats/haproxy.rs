//! HAProxy: a `backend` with its server lines. Weights are scaled to 1–256, which is all that HAProxy takes; a draining
//! endpoint has the weight 0, which takes no new requests and leaves those in flight.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::name;
use crate::endpoints::pool::Pool;

const MAX_WEIGHT: u64 = 256;

/// One pool.
pub(super) fn pool(pool: &Pool) -> String {
    let heaviest = pool.endpoints.iter().filter(|it| it.is_ready()).map(|it| u64::from(it.weight)).max().unwrap_or(1);
    let mut text = format!("backend {}\n", name(&pool.id));
    for endpoint in pool.endpoints.iter() {
        let weight = match endpoint.is_ready() {
            true => (u64::from(endpoint.weight) * MAX_WEIGHT / heaviest.max(1)).clamp(1, MAX_WEIGHT),
            false => 0,
        };
        let address = SocketAddr::new(endpoint.address, endpoint.port);
        // Writing to a string does not fail.
        let _ = writeln!(text, "    server {}_{} {address} weight {weight}", endpoint.address, endpoint.port);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::discovery::formats::tests::sample;

    #[test]
    fn a_pool_is_a_backend_with_scaled_weights() {
        assert_eq!(
            super::pool(&sample("east/shop/checkout/http")),
            "backend east_shop_checkout_http\n    server 10.1.2.3_8080 10.1.2.3:8080 weight 256\n    server 10.1.2.4_8080 10.1.2.4:8080 weight 0\n    server fd00::1_8080 [fd00::1]:8080 weight 128\n"
        );
    }
}
