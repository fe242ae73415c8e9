//! From what a backend has to what it should have, command by command. Pure.
//!
//! A new server is added (in maintenance, as HAProxy does), its checks are begun, then it is enabled. One that is drained
//! takes no new requests. One that is gone goes to maintenance at once, by which idle connections to it are closed, and is
//! deleted when the last connection has ended: HAProxy refuses it before. One that comes back in between is used again. New ones come before
//! old ones go, so that a backend is never emptied on the way.

use std::collections::BTreeMap;

use super::state::{Admin, Backend, Server, server_name};
use crate::pull::wire::{Pool, State};
use crate::render::weights;

/// One command, and what it does to the server that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) backend: String,
    pub(super) server: String,
    pub(super) act: Act,
}

/// What is done to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Added with these arguments.
    Add {
        arguments: String,
        weight: u32,
    },
    /// Its checks begin.
    Check,
    /// Put into a state.
    Put(Admin),
    Weigh(u32),
    /// Deleted; HAProxy may refuse for a time.
    Delete,
}

/// How an answer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    /// It has connections: again later.
    Busy,
    /// Anything else; the backend may be gone.
    Refused,
}

/// What a backend should have: every server with its address, weight and whether it takes requests.
fn wanted(pool: &Pool) -> BTreeMap<String, (String, u32, State)> {
    let tcp = pool.endpoints.iter().zip(weights(pool)).filter(|(it, _)| it.protocol == "TCP");
    tcp.map(|(it, weight)| (server_name(it.address, it.port), (it.socket().to_string(), weight, it.state))).collect()
}

/// The steps that make a backend what its pool says; `None` for a pool that is gone, whose servers go. `options` are further
/// words for each new server, `checks` says that there are health checks among them.
pub(super) fn plan(name: &str, backend: &Backend, pool: Option<&Pool>, options: &str, checks: bool) -> Vec<Step> {
    let wanted = pool.map(wanted).unwrap_or_default();
    let step = |server: &str, act| Step { backend: name.to_owned(), server: server.to_owned(), act };
    let mut steps = Vec::new();
    for (server, (address, weight, _)) in wanted.iter().filter(|(_, (_, _, state))| *state == State::Ready) {
        let Some(has) = backend.servers.get(server) else {
            let blank = if options.is_empty() { "" } else { " " };
            let arguments = format!("{address} weight {weight}{blank}{options}");
            steps.push(step(server, Act::Add { arguments, weight: *weight }));
            if checks {
                steps.push(step(server, Act::Check));
            }
            steps.push(step(server, Act::Put(Admin::Ready)));
            continue;
        };
        if has.weight != *weight {
            steps.push(step(server, Act::Weigh(*weight)));
        }
        if has.state != Admin::Ready {
            steps.push(step(server, Act::Put(Admin::Ready)));
        }
    }
    // One that was never here has no requests to finish.
    for (server, _) in wanted.iter().filter(|(_, (_, _, state))| *state == State::Draining) {
        if backend.servers.get(server).is_some_and(|has| has.state == Admin::Ready) {
            steps.push(step(server, Act::Put(Admin::Drain)));
        }
    }
    for (server, has) in backend.servers.iter().filter(|(server, _)| !wanted.contains_key(*server)) {
        if has.state != Admin::Maint {
            steps.push(step(server, Act::Put(Admin::Maint)));
        }
        steps.push(step(server, Act::Delete));
    }
    steps
}

// === impl Step ===

impl Step {
    /// As HAProxy takes it.
    pub(super) fn command(&self) -> String {
        let Self { backend, server, act } = self;
        let at = format!("{backend}/{server}");
        match act {
            Act::Add { arguments, .. } => format!("add server {at} {arguments}"),
            Act::Check => format!("enable health {at}"),
            Act::Put(Admin::Ready) => format!("set server {at} state ready"),
            Act::Put(Admin::Drain) => format!("set server {at} state drain"),
            Act::Put(Admin::Maint) => format!("set server {at} state maint"),
            Act::Weigh(weight) => format!("set server {at} weight {weight}"),
            Act::Delete => format!("del server {at}"),
        }
    }

    /// What HAProxy's answer means.
    pub(super) fn verdict(&self, answer: &str) -> Verdict {
        let is = |text: &str| answer.starts_with(text);
        match &self.act {
            Act::Add { .. } if is("New server registered") => Verdict::Done,
            // Gone already, by whoever's hand.
            Act::Delete if is("Server deleted") || is("No such server") => Verdict::Done,
            Act::Delete if is("Server still has connections") => Verdict::Busy,
            Act::Check | Act::Put(_) | Act::Weigh(_) if answer.is_empty() => Verdict::Done,
            _ => Verdict::Refused,
        }
    }

    /// What a backend has after it.
    pub(super) fn done(&self, backend: &mut Backend) {
        match &self.act {
            Act::Add { weight, .. } => {
                backend.servers.insert(self.server.clone(), Server { weight: *weight, state: Admin::Maint });
            }
            Act::Delete => {
                backend.servers.remove(&self.server);
            }
            Act::Check => {}
            Act::Put(state) => {
                if let Some(server) = backend.servers.get_mut(&self.server) {
                    server.state = *state;
                }
            }
            Act::Weigh(weight) => {
                if let Some(server) = backend.servers.get_mut(&self.server) {
                    server.weight = *weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pull::wire::Endpoint;

    fn pool(endpoints: &[(u8, u32, State)]) -> Pool {
        let endpoint = |(last, weight, state): &(u8, u32, State)| {
            let text =
                serde_json::json!({"address": format!("10.0.0.{last}"), "port": 80, "weight": weight, "state": state});
            serde_json::from_value::<Endpoint>(text).unwrap()
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        Pool { id: "p".into(), traffic_generation: None, endpoints, etag: String::new() }
    }

    fn commands(backend: &Backend, pool: Option<&Pool>) -> Vec<String> {
        plan("b", backend, pool, "check inter 2s", true).iter().map(Step::command).collect()
    }

    fn run(backend: &mut Backend, pool: Option<&Pool>) {
        for step in plan("b", backend, pool, "", false) {
            step.done(backend);
        }
    }

    #[test]
    fn a_server_is_added_weighed_drained_and_deleted() {
        let mut backend = Backend::default();
        let one = pool(&[(1, 100, State::Ready), (2, 50, State::Ready), (3, 100, State::Draining)]);
        assert_eq!(
            commands(&backend, Some(&one)),
            [
                "add server b/10.0.0.1_80 10.0.0.1:80 weight 256 check inter 2s",
                "enable health b/10.0.0.1_80",
                "set server b/10.0.0.1_80 state ready",
                "add server b/10.0.0.2_80 10.0.0.2:80 weight 128 check inter 2s",
                "enable health b/10.0.0.2_80",
                "set server b/10.0.0.2_80 state ready",
            ]
        );
        run(&mut backend, Some(&one));
        assert_eq!(commands(&backend, Some(&one)), [""; 0], "it has what it should");
        let two = pool(&[(1, 100, State::Draining), (2, 100, State::Ready), (4, 50, State::Ready)]);
        assert_eq!(
            commands(&backend, Some(&two)),
            [
                "set server b/10.0.0.2_80 weight 256",
                "add server b/10.0.0.4_80 10.0.0.4:80 weight 128 check inter 2s",
                "enable health b/10.0.0.4_80",
                "set server b/10.0.0.4_80 state ready",
                "set server b/10.0.0.1_80 state drain",
            ]
        );
        run(&mut backend, Some(&two));
        let three = pool(&[(4, 50, State::Ready)]);
        assert_eq!(
            commands(&backend, Some(&three)),
            [
                "set server b/10.0.0.4_80 weight 256",
                "set server b/10.0.0.1_80 state maint",
                "del server b/10.0.0.1_80",
                "set server b/10.0.0.2_80 state maint",
                "del server b/10.0.0.2_80",
            ]
        );
        assert_eq!(commands(&backend, None).last().unwrap(), "del server b/10.0.0.4_80");
    }

    #[test]
    fn one_that_comes_back_before_it_was_deleted_is_used_again() {
        let server = Server { weight: 256, state: Admin::Maint };
        let backend = Backend { servers: [("10.0.0.1_80".to_owned(), server)].into() };
        assert_eq!(commands(&backend, Some(&pool(&[(1, 9, State::Ready)]))), ["set server b/10.0.0.1_80 state ready"]);
    }

    #[test]
    fn what_haproxy_answers_is_understood() {
        let step = |act| Step { backend: "b".into(), server: "10.0.0.1_80".into(), act };
        let add = step(Act::Add { arguments: String::new(), weight: 1 });
        assert_eq!(add.verdict("New server registered."), Verdict::Done);
        assert_eq!(add.verdict("No such backend."), Verdict::Refused);
        assert_eq!(add.verdict("unknown keyword 'bogus'."), Verdict::Refused);
        let delete = step(Act::Delete);
        assert_eq!(delete.verdict("Server still has connections attached to it, cannot remove it."), Verdict::Busy);
        assert_eq!(delete.verdict("Server deleted."), Verdict::Done);
        assert_eq!(step(Act::Weigh(1)).verdict(""), Verdict::Done);
        assert_eq!(step(Act::Weigh(1)).verdict("No such server."), Verdict::Refused);
    }

    proptest! {
        #[test]
        fn from_wherever_it_is_a_backend_becomes_its_pool_and_is_never_emptied_on_the_way(
            before in proptest::collection::btree_map(0_u8..8, (1_u32..300, 0_u8..3), 0..8),
            after in proptest::collection::btree_map(0_u8..8, (1_u32..300, any::<bool>()), 1..8),
        ) {
            let admin = |state| [Admin::Ready, Admin::Drain, Admin::Maint][usize::from(state)];
            let server = |(last, (weight, state)): (u8, (u32, u8))| (format!("10.0.0.{last}_80"), Server { weight, state: admin(state) });
            let mut backend = Backend { servers: before.into_iter().map(server).collect() };
            let state = |ready| if ready { State::Ready } else { State::Draining };
            let endpoints: Vec<_> = after.iter().map(|(last, (weight, ready))| (*last, *weight, state(*ready))).collect();
            let pool = pool(&endpoints);
            let serves = |backend: &Backend| backend.servers.values().any(|it| it.state == Admin::Ready);
            let (served, shall) = (serves(&backend), pool.ready().count() > 0);
            for step in plan("b", &backend, Some(&pool), "", false) {
                step.done(&mut backend);
                prop_assert!(!served || !shall || serves(&backend), "emptied by {step:?}");
            }
            let ready: Vec<_> = pool.ready().map(|it| server_name(it.address, it.port)).collect();
            let has: Vec<_> = backend.servers.iter().filter(|(_, it)| it.state == Admin::Ready).map(|(name, _)| name.clone()).collect();
            prop_assert_eq!(has.len(), ready.len());
            prop_assert!(ready.iter().all(|name| has.contains(name)));
            prop_assert!(plan("b", &backend, Some(&pool), "", false).is_empty(), "a second look finds nothing to do");
        }
    }
}
