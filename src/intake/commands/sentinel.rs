//! SENTINEL: where `cluster` is configured, this instance says of itself that it is the master that the client looks for.
//! Without, the command is unknown, as in a Redis that is no sentinel.

use crate::intake::client::{Client, ServerFacts};
use crate::intake::cluster::{Endpoint, Node, View};
use crate::resp::reply::Reply;

use super::{shown, unknown};

/// SENTINEL and its sub-commands.
pub(super) fn sentinel(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let Some(view) = server.cluster.view(&client.local_address, server.tcp_port) else { return unknown(args) };
    let Some(sub) = args.get(1) else { return wrong_arity("sentinel") };
    let sub = sub.to_ascii_lowercase();
    let known = |sub: &[u8]| {
        Some(match sub {
            b"masters" | b"myid" => 2,
            b"master" | b"get-master-addr-by-name" | b"sentinels" | b"replicas" | b"slaves" | b"ckquorum" => 3,
            b"is-master-down-by-addr" => 6,
            _ => return None,
        })
    };
    match known(&sub) {
        None => {
            let name = shown(args.get(1).copied().unwrap_or_default(), 128).into_owned();
            Reply::error(format!("ERR unknown subcommand '{name}'. Try SENTINEL HELP."))
        }
        Some(count) if count != args.len() => wrong_arity(&format!("sentinel|{}", String::from_utf8_lossy(&sub))),
        Some(_) => answer(&sub, args.get(2).copied().unwrap_or_default(), &view, server),
    }
}

fn answer(sub: &[u8], name: &[u8], view: &View, server: &ServerFacts<'_>) -> Reply {
    let (here, masters) = (&view.here, &server.cluster.config.sentinel_masters);
    let known = masters.iter().find(|master| master.as_bytes() == name);
    match (sub, known) {
        (b"masters", _) => Reply::Array(masters.iter().map(|name| master(name, here, view, server)).collect()),
        (b"myid", _) => Reply::bulk(here.id.as_bytes()),
        // Asked by other sentinels before a failover: never down.
        (b"is-master-down-by-addr", _) => Reply::Array(vec![Reply::Integer(0), Reply::text("*"), Reply::Integer(0)]),
        (b"get-master-addr-by-name", None) => Reply::NilArray,
        (b"get-master-addr-by-name", Some(_)) => {
            let Endpoint { host, port } = &here.endpoint;
            Reply::Array(vec![Reply::bulk(host.as_bytes()), Reply::bulk(port.to_string())])
        }
        (_, None) => Reply::error("ERR No such master with that name"),
        (b"master", Some(name)) => master(name, here, view, server),
        (b"sentinels", Some(_)) => {
            let others = view.all().filter(|node| node.id != here.id).cloned().map(|mut node| {
                node.endpoint.port = server.cluster.config.sentinel_port.unwrap_or(node.endpoint.port);
                Reply::Map(instance(&node.id, &node, "sentinel"))
            });
            Reply::Array(others.collect())
        }
        (b"ckquorum", Some(_)) => {
            let usable = view.all().count();
            let words = "usable Sentinels. Quorum and failover authorization can be reached";
            Reply::simple(format!("OK {usable} {words}"))
        }
        // REPLICAS, SLAVES.
        _ => Reply::Array(Vec::new()),
    }
}

fn master(name: &str, here: &Node, view: &View, server: &ServerFacts<'_>) -> Reply {
    let mut fields = instance(name, here, "master");
    let number = |number: usize| Reply::bulk(number.to_string());
    if let Some((_, run_id)) = fields.get_mut(3) {
        *run_id = Reply::bulk(server.run_id.as_bytes());
    }
    fields.extend([
        (Reply::text("role-reported"), Reply::text("master")),
        (Reply::text("role-reported-time"), number(0)),
        (Reply::text("config-epoch"), number(0)),
        (Reply::text("num-slaves"), number(0)),
        (Reply::text("num-other-sentinels"), number(view.all().count().saturating_sub(1))),
        (Reply::text("quorum"), number(1)),
        (Reply::text("failover-timeout"), number(180_000)),
        (Reply::text("parallel-syncs"), number(1)),
    ]);
    Reply::Map(fields)
}

/// The fields that sentinels tell of every instance, in their order.
fn instance(name: &str, node: &Node, flags: &'static str) -> Vec<(Reply, Reply)> {
    let zero = || Reply::text("0");
    vec![
        (Reply::text("name"), Reply::bulk(name.as_bytes())),
        (Reply::text("ip"), Reply::bulk(node.endpoint.host.as_bytes())),
        (Reply::text("port"), Reply::bulk(node.endpoint.port.to_string())),
        (Reply::text("runid"), Reply::bulk(node.id.as_bytes())),
        (Reply::text("flags"), Reply::text(flags)),
        (Reply::text("link-pending-commands"), zero()),
        (Reply::text("link-refcount"), Reply::text("1")),
        (Reply::text("last-ping-sent"), zero()),
        (Reply::text("last-ok-ping-reply"), zero()),
        (Reply::text("last-ping-reply"), zero()),
        (Reply::text("down-after-milliseconds"), Reply::text("30000")),
        (Reply::text("info-refresh"), zero()),
    ]
}

fn wrong_arity(name: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{name}' command"))
}
