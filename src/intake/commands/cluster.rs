//! What clients of a cluster ask. Without one, the words are Redis's, which make such clients fall back to a single server.

use std::fmt::Write as _;

use crate::intake::client::{Client, ServerFacts};
use crate::intake::cluster::{Node, SLOTS, View};
use crate::resp::reply::Reply;

use super::parse::integer;
use super::{introspection, shown};

/// Answers from the cluster as the client sees it, or that there is none.
fn viewed(client: &Client, server: &ServerFacts<'_>, answer: impl FnOnce(&View) -> Reply) -> Reply {
    match server.cluster.view(&client.local_address, server.tcp_port) {
        Some(view) => answer(&view),
        None => Reply::error("ERR This instance has cluster support disabled"),
    }
}

/// READONLY, READWRITE, ASKING.
pub(super) fn ok(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |_| Reply::OK)
}

pub(super) fn help(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    match server.cluster.view(&client.local_address, server.tcp_port) {
        Some(_) => introspection::help(args, client, server),
        None => viewed(client, server, |_| Reply::OK),
    }
}

/// What would change the cluster: it stands in the configuration.
pub(super) fn fixed(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let sub = shown(args.get(1).copied().unwrap_or_default(), 128).to_ascii_lowercase();
    viewed(client, server, |_| {
        let remedy = "the cluster is what `cluster` in Tidegate's configuration file says";
        Reply::error(format!("ERR 'cluster|{sub}' is not served: {remedy}"))
    })
}

pub(super) fn slots(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |view| {
        let entry = |node: &Node| {
            let (first, last) = node.slots?;
            let address = vec![
                Reply::bulk(node.endpoint.host.as_bytes()),
                Reply::Integer(i64::from(node.endpoint.port)),
                Reply::bulk(node.id.as_bytes()),
                Reply::Array(Vec::new()),
            ];
            Some(Reply::Array(vec![Reply::count(first), Reply::count(last), Reply::Array(address)]))
        };
        Reply::Array(view.nodes.iter().filter_map(entry).collect())
    })
}

pub(super) fn shards(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |view| {
        let shard = |node: &Node| {
            let host = || Reply::bulk(node.endpoint.host.as_bytes());
            let fields = vec![
                (Reply::text("id"), Reply::bulk(node.id.as_bytes())),
                (Reply::text("port"), Reply::Integer(i64::from(node.endpoint.port))),
                (Reply::text("ip"), host()),
                (Reply::text("endpoint"), host()),
                (Reply::text("role"), Reply::text("master")),
                (Reply::text("replication-offset"), Reply::Integer(0)),
                (Reply::text("health"), Reply::text("online")),
            ];
            let slots = node.slots.map(|(first, last)| vec![Reply::count(first), Reply::count(last)]);
            let slots = Reply::Array(slots.unwrap_or_default());
            Reply::Map(vec![
                (Reply::text("slots"), slots),
                (Reply::text("nodes"), Reply::Array(vec![Reply::Map(fields)])),
            ])
        };
        Reply::Array(view.all().map(shard).collect())
    })
}

pub(super) fn nodes(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |view| {
        let mut text = String::new();
        for (place, node) in view.all().enumerate() {
            let (host, port) = (&node.endpoint.host, node.endpoint.port);
            let slots = node.slots.map(|(first, last)| format!(" {first}-{last}")).unwrap_or_default();
            let flags = if node.id == view.here.id { "myself,master" } else { "master" };
            // There is no cluster bus; Redis's port for it would be this.
            let bus = u32::from(port) + 10_000;
            // Writing to a String does not fail.
            let _ = writeln!(text, "{} {host}:{port}@{bus} {flags} - 0 0 {place} connected{slots}", node.id);
        }
        Reply::Verbatim(text)
    })
}

pub(super) fn info(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |view| {
        let (count, size) = (view.all().count(), view.nodes.len());
        Reply::Verbatim(format!(
            "cluster_state:ok\r\ncluster_slots_assigned:{SLOTS}\r\ncluster_slots_ok:{SLOTS}\r\n\
             cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{count}\r\ncluster_size:{size}\r\n\
             cluster_current_epoch:0\r\ncluster_my_epoch:0\r\ncluster_stats_messages_sent:0\r\n\
             cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n"
        ))
    })
}

pub(super) fn myid(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |view| Reply::bulk(view.here.id.as_bytes()))
}

pub(super) fn keyslot(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let key = args.get(2).copied().unwrap_or_default();
    viewed(client, server, |_| Reply::Integer(i64::from(redis_protocol::redis_keyslot(key))))
}

/// COUNTKEYSINSLOT slot.
pub(super) fn countkeysinslot(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |_| match integer(args.get(2).copied().unwrap_or_default()) {
        Ok(slot) if is_slot(slot) => Reply::Integer(0),
        Ok(_) => Reply::error("ERR Invalid slot"),
        Err(error) => error,
    })
}

/// GETKEYSINSLOT slot count.
pub(super) fn getkeysinslot(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let number = |place: usize| integer(args.get(place).copied().unwrap_or_default());
    viewed(client, server, |_| match (number(2), number(3)) {
        (Ok(slot), Ok(0..)) if is_slot(slot) => Reply::Array(Vec::new()),
        (Ok(_), Ok(_)) => Reply::error("ERR Invalid slot or number of keys"),
        (Err(error), _) | (_, Err(error)) => error,
    })
}

/// REPLICAS, SLAVES and COUNT-FAILURE-REPORTS of a node: there are none.
pub(super) fn replicas(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let counts = args.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case(b"count-failure-reports"));
    of_node(args, client, server, if counts { Reply::Integer(0) } else { Reply::Array(Vec::new()) })
}

fn of_node(args: &[&[u8]], client: &Client, server: &ServerFacts<'_>, reply: Reply) -> Reply {
    let id = args.get(2).copied().unwrap_or_default();
    viewed(client, server, |view| {
        if view.all().any(|node| node.id.as_bytes() == id) {
            return reply;
        }
        Reply::error(format!("ERR Unknown node {}", shown(id, 128)))
    })
}

/// LINKS: no bus, no links.
pub(super) fn links(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    viewed(client, server, |_| Reply::Array(Vec::new()))
}

fn is_slot(number: i64) -> bool {
    usize::try_from(number).is_ok_and(|slot| slot < SLOTS)
}
