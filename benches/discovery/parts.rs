//! The parts of the bench.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bed::{http, wait_until};
use crate::clients::Clients;
use crate::feed::{Feed, Kind};
use crate::report::{line, target, times, title};
use crate::services::{Service, Services};
use crate::subject::Subject;
use crate::system;

/// Services and endpoints of `change` and `storm`.
const SERVICES: usize = 3_000;
const ENDPOINTS: usize = 20;
/// Clients that wait for one to ten pools each, and clients that follow all.
const WAITERS: usize = 1_000;
const FOLLOWERS: usize = 10;
/// Longer than a change waits for company: the next one is a first one again.
const QUIET: Duration = Duration::from_millis(120);

/// Tidegate over all services, and all clients waiting.
struct Bed {
    services: Arc<Services>,
    subject: Subject,
    clients: Clients,
    /// The services that somebody waits for.
    waited_for: Vec<usize>,
}

impl Bed {
    fn start(kind: Kind, scale: usize) -> Self {
        let services = Arc::new(Services::new(SERVICES / scale, ENDPOINTS));
        let subject = Subject::start(kind, &services);
        let mut clients = Clients::new(subject.address, services.clone());
        let mut waited_for = Vec::new();
        for waiter in 0..WAITERS / scale {
            // Spread over all services, and some of them waited for by several.
            let mut of: Vec<usize> =
                (0..=waiter % 10).map(|at| (waiter * 7 + at * 911) % (services.len() * 2 / 3)).collect();
            of.sort_unstable();
            of.dedup();
            clients.add(&of);
            waited_for.extend(of);
        }
        (0..FOLLOWERS).for_each(|_| clients.add(&[]));
        waited_for.sort_unstable();
        waited_for.dedup();
        let bed = Self { services, subject, clients, waited_for };
        bed.wait_waiting();
        let (pools, endpoints) = (bed.services.len(), bed.services.len() * ENDPOINTS);
        let clients = bed.clients.len() - FOLLOWERS;
        println!("{pools} pools, {endpoints} endpoints of {};", bed.subject.feed);
        println!("{clients} clients on 1-10 pools each, {FOLLOWERS} on all\n");
        bed
    }

    fn wait_waiting(&self) {
        wait_until(Duration::from_secs(120), "everybody waits", || {
            self.subject.tidegate.metric("tidegate_discovery_waiting_requests") == self.clients.len() as f64
        });
    }

    /// Everybody has the last state, and it is the right one.
    fn finish(&self) {
        self.clients.wait_seen(None);
        self.subject.check(&self.services);
    }
}

/// One change after the other, each into quiet.
pub(crate) fn change(kind: Kind, scale: usize) {
    title("an isolated change, from its write at the API server to the body in a waiting client's hands");
    let bed = Bed::start(kind, scale);
    let changes = 300 / scale;
    let cpu = system::cpu_time(bed.subject.tidegate.pid());
    bed.clients.take();
    for change in 0..changes {
        let service = bed.waited_for[change * 37 % bed.waited_for.len()];
        bed.subject.feed.write(&bed.services, service, Service::step);
        bed.clients.wait_seen(Some(service));
        pause(QUIET);
    }
    let cpu = system::cpu_time(bed.subject.tidegate.pid()) - cpu;
    let ([some, all], deliveries, _) = bed.clients.take();
    times("clients on 1-10 pools", &some, 20.0);
    times("clients on all", &all, 20.0);
    line("changes, deliveries", format!("{changes}, {deliveries}"));
    line("processor time a change", format!("{:.0} µs", cpu.as_secs_f64() * 1e6 / changes as f64));
    bed.finish();
}

/// Pods come, drain and go all over the cluster, 500 of them each second.
pub(crate) fn storm(kind: Kind, scale: usize) {
    title("a storm of 500 pod changes each second, for 20 s");
    let bed = Bed::start(kind, scale);
    let (rate, seconds) = (500, 20 / scale.min(4));
    let pid = bed.subject.tidegate.pid();
    let published = || bed.subject.tidegate.metric("tidegate_discovery_publications_total");
    let (cpu, publications, began) = (system::cpu_time(pid), published(), Instant::now());
    bed.clients.take();
    let writers = bed.subject.feed.writers();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (feed, services): (&Feed, &Services) = (&bed.subject.feed, &bed.services);
            scope.spawn(move || {
                for change in (writer..rate * seconds).step_by(writers) {
                    // Each writer has services of its own: two writes of one must not overtake each other.
                    let service = (change / writers * 41 % (services.len() / writers)) * writers + writer;
                    let due = began + Duration::from_secs_f64(change as f64 / rate as f64);
                    pause(due.saturating_duration_since(Instant::now()));
                    feed.write(services, service, Service::step);
                }
            });
        }
    });
    let took = began.elapsed();
    bed.clients.wait_seen(None);
    let cpu = system::cpu_time(pid) - cpu;
    let ([some, all], deliveries, answers) = bed.clients.take();
    times("clients on 1-10 pools", &some, 600.0);
    times("clients on all", &all, 600.0);
    let changes = rate * seconds;
    line("changes a second, as written", format!("{:.0}", changes as f64 / took.as_secs_f64()));
    line(
        "publications, answers, changes delivered",
        format!("{:.0}, {answers}, {deliveries}", published() - publications),
    );
    line("processor time", format!("{:.0} % of a core", 100.0 * cpu.as_secs_f64() / took.as_secs_f64()));
    line("processor time a change delivered", format!("{:.1} µs", cpu.as_secs_f64() * 1e6 / deliveries as f64));
    bed.finish();
}

/// What 10 000 services with 150 000 endpoints take.
pub(crate) fn memory(scale: usize) {
    title("resident memory of 10 000 services, 150 000 endpoints");
    let services = Services::new(10_000 / scale, 15);
    let subject = Subject::start(Kind::Simulator, &services);
    let pid = subject.tidegate.pid();
    let show = |what: &str| {
        let (now, most) = system::memory(pid);
        line(what, format!("{now:.1} MB, at most {most:.1} MB so far  now: {}", target(now, 150.0)));
    };
    show("after the first list");
    let Feed::Simulator(simulator) = &subject.feed else { unreachable!("it is what was asked for") };
    let lists = simulator.lists();
    simulator.forget();
    wait_until(Duration::from_secs(60), "another list", || {
        simulator.lists() > lists && subject.tidegate.metric("tidegate_discovery_source_synced") == 1.0
    });
    pause(Duration::from_secs(15));
    show("15 s after another list, because the version was gone");
    let body = http::get(subject.address, "/v1/delta").unwrap().body.len();
    pause(Duration::from_secs(15));
    show("15 s after a client has fetched everything");
    line("that client's body", format!("{:.1} MB", body as f64 / 1e6));
    subject.check(&services);
}

/// One change against more and more that does not change.
pub(crate) fn cost(scale: usize) {
    title("processor time of one change, by how many endpoints there are");
    let mut least = None;
    for endpoints in [1_000, 10_000, 100_000] {
        let services = Arc::new(Services::new(endpoints / scale / ENDPOINTS, ENDPOINTS));
        let subject = Subject::start(Kind::Simulator, &services);
        let mut clients = Clients::new(subject.address, services.clone());
        clients.add(&[]);
        clients.wait_seen(None);
        let pid = subject.tidegate.pid();
        let changes = 1_000 / scale;
        let cpu = system::cpu_time(pid);
        for change in 0..changes {
            // A pod that is gone does not wait for company: each change is a publication and an answer.
            let service = change * 7 % services.len();
            subject.feed.write(&services, service, Service::replace_pod);
            clients.wait_seen(Some(service));
        }
        let each = (system::cpu_time(pid) - cpu).as_secs_f64() * 1e6 / changes as f64;
        let ratio = each / *least.get_or_insert(each);
        line(
            &format!("{} endpoints", services.len() * ENDPOINTS),
            format!("{each:.0} µs, {ratio:.2} of the first  {}", target(ratio, 1.3)),
        );
        subject.check(&services);
    }
}

#[allow(clippy::disallowed_methods, reason = "a bench's load has its pace, and memory its time to be given back")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
