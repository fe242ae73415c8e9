//! Tables and differences, as text.

use std::collections::BTreeMap;

use super::{EndpointBody, ListEntry};
use crate::base::table::table;

/// All pools.
pub(super) fn list_table(pools: &[ListEntry]) -> String {
    let row = |pool: &ListEntry| [pool.id.clone(), pool.endpoints.to_string(), pool.state.clone()];
    table(["POOL", "ENDPOINTS", "STATE"], pools.iter().map(row))
}

/// One pool's endpoints.
pub(super) fn pool_table(endpoints: &[EndpointBody]) -> String {
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let address = |it: &EndpointBody| match it.address.contains(':') {
        true => format!("[{}]:{}", it.address, it.port),
        false => format!("{}:{}", it.address, it.port),
    };
    let row = |it: &EndpointBody| {
        let [zone, node, cluster, target] = [&it.zone, &it.node, &it.cluster, &it.target].map(or_dash);
        [address(it), it.weight.to_string(), it.state.clone(), zone, node, cluster, target]
    };
    table(["ENDPOINT", "WEIGHT", "STATE", "ZONE", "NODE", "CLUSTER", "TARGET"], endpoints.iter().map(row))
}

/// What came (`+`), went (`-`) and changed (`~`), a line each.
pub(super) fn changes<T>(
    before: &[T],
    now: &[T],
    key: impl Fn(&T) -> String,
    show: impl Fn(&T) -> String,
    same: impl Fn(&T, &T) -> bool,
) -> String {
    let keyed = |list: &'_ [T]| list.iter().enumerate().map(|(at, it)| (key(it), at)).collect::<BTreeMap<_, _>>();
    let (old, new) = (keyed(before), keyed(now));
    let mut lines = String::new();
    for (name, at) in &old {
        match (before.get(*at), new.get(name).and_then(|at| now.get(*at))) {
            (Some(gone), None) => lines += &format!("- {name}  {}\n", show(gone)),
            (Some(one), Some(other)) if !same(one, other) => {
                lines += &format!("~ {name}  {} → {}\n", show(one), show(other));
            }
            _ => {}
        }
    }
    for (name, at) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        if let Some(it) = now.get(*at) {
            lines += &format!("+ {name}  {}\n", show(it));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, endpoints: usize, etag: &str) -> ListEntry {
        ListEntry { id: id.into(), etag: etag.into(), endpoints, state: "fresh".into() }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = list_table(&[entry("a", 1, ""), entry("east/shop/web/http", 12, "")]);
        assert_eq!(
            text,
            "POOL                ENDPOINTS  STATE\na                   1          fresh\neast/shop/web/http  12         fresh\n"
        );
    }

    #[test]
    fn a_change_is_what_came_went_and_became_another() {
        let before = [entry("a", 1, "x"), entry("b", 2, "x"), entry("c", 3, "x")];
        let now = [entry("b", 2, "x"), entry("c", 4, "y"), entry("d", 5, "x")];
        let text = changes(&before, &now, |it| it.id.clone(), |it| it.endpoints.to_string(), |a, b| a.etag == b.etag);
        assert_eq!(text, "- a  1\n~ c  3 → 4\n+ d  5\n");
    }
}
