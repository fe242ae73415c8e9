//! What it costs to know who sends, and to keep it from others: TLS and users, beside redis-server with the same.

use crate::Options;
use crate::bed::certificates::Authority;
use crate::bed::{RespClient, WorkDir, free_port};
use crate::parts::{RATIOS, load, mock, warm_up};
use crate::report::{heading, row, target, title};
use crate::subject::{Subject, alternate, offsets, redis, redis_with, tidegate, tidegate_with};
use crate::system::Pinning;
use crate::wire::{Access, trusting};
use std::net::SocketAddr;

/// Most of Tidegate's processor time a record over TLS, as a part of redis-server's over TLS.
const TLS_RATIO: f64 = 1.0;
/// The user of the part "auth".
const USER: (&str, &str) = ("bench", "bench-secret");

/// TLS 1.3 with the suite that both sides choose by themselves, beside redis-server with TLS; and both without.
pub(crate) fn tls(options: &Options, pinning: Pinning) {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let authority = Authority::new();
    let certified = authority.issue("server");
    let (certificate, key) = (certified.certificate.display().to_string(), certified.key.display().to_string());
    let port = free_port();
    let tls_port = port.to_string();
    let mut redis_plain = redis(pinning);
    let arguments = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let more = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
    let mut redis_tls = redis_with(pinning, &[&arguments[..], &more[..]].concat());
    let plain = tidegate(mock.bootstrap(), "none", 1, pinning);
    let lines = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}");
    let secure = tidegate_with(mock.bootstrap(), "none", 1, pinning, &lines, "");
    let access = Access { tls: Some(trusting(&authority.path())), login: None };
    let subjects = [
        Subject::redis(&mut redis_plain),
        Subject::redis(&mut redis_tls).by(
            "redis-server, TLS",
            SocketAddr::from(([127, 0, 0, 1], port)),
            access.clone(),
        ),
        Subject::tidegate("tidegate", &plain, &kafka, 0),
        Subject::tidegate("", &secure, &kafka, 0).by("tidegate, TLS", secure.redis_addr(), access),
    ];
    compare(&subjects, options, "TLS", Some(TLS_RATIO));
}

/// As a user with a password, key patterns and rules, beside redis-server with the same user; and both without.
pub(crate) fn auth(options: &Options, pinning: Pinning) {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let mut redis_plain = redis(pinning);
    let mut redis_users = redis(pinning);
    let (name, password) = USER;
    let rules = format!("ACL SETUSER {name} on >{password} ~app-* ~bench-* resetchannels -@all +@write +ping");
    assert_eq!(RespClient::connect(redis_users.address()).command(rules.split(' ')).bytes(), b"OK");
    let plain = tidegate(mock.bootstrap(), "none", 1, pinning);
    let files = WorkDir::new("bench");
    let file = files.write("password", password);
    let section = format!(
        "[[log.user]]\nname = {name:?}\npassword_file = {file:?}\nkeys = [\"app-*\", \"bench-*\"]\n\
         commands = [\"+@write\", \"+ping\"]\n"
    );
    let users = tidegate_with(mock.bootstrap(), "none", 1, pinning, "", &section);
    let access = Access { tls: None, login: Some(USER) };
    let redis_address = redis_users.address();
    let subjects = [
        Subject::redis(&mut redis_plain),
        Subject::redis(&mut redis_users).by("redis-server, ACL", redis_address, access.clone()),
        Subject::tidegate("tidegate", &plain, &kafka, 0),
        Subject::tidegate("", &users, &kafka, 0).by("tidegate, ACL", users.redis_addr(), access),
    ];
    compare(&subjects, options, "a user's password, keys and rules", None);
}

/// redis-server without and with, then Tidegate without and with: each beside redis-server in the same way.
fn compare(subjects: &[Subject<'_>; 4], options: &Options, what: &str, most: Option<f64>) {
    warm_up(subjects);
    for (pipeline, _) in RATIOS.into_iter().filter(|(pipeline, _)| options.wants(*pipeline)) {
        title(format!(
            "{what}: mock cluster, 50 connections, pipeline {pipeline}; ratio to redis-server in the same way"
        ));
        heading("");
        let figures = alternate(subjects, load(50, pipeline, options), options.rounds());
        for (index, (subject, figures_of)) in subjects.iter().zip(&figures).enumerate() {
            let reference = figures[index % 2].cpu;
            let remark = match most {
                Some(most) if index == 3 => target(figures_of.cpu / reference, most),
                _ => String::new(),
            };
            row(&subject.name, figures_of, reference, &remark);
        }
        let added = |with: usize, without: usize| figures[with].cpu - figures[without].cpu;
        let share = |with: usize, without: usize| figures[with].cpu / figures[without].cpu;
        println!(
            "     {what} adds {:.3} µs a record to redis-server ({:.2} ×), {:.3} µs to tidegate ({:.2} ×)",
            added(1, 0),
            share(1, 0),
            added(3, 2),
            share(3, 2),
        );
    }
}
