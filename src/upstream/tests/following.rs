//! Pools that are followed as in production, while several threads pick.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::*;
use crate::endpoints::join::Member;
use crate::upstream::config::*;
use crate::upstream::*;

#[tokio::test]
async fn a_change_reaches_the_pools_that_it_is_about_and_no_others() {
    let mut bed = Bed::new(PoolConfig::default());
    let members =
        vec![Member { pool: id("vms"), share: 1, priority: 0 }, Member { pool: id(POOL), share: 1, priority: 1 }];
    let joined = PoolConfig { members, ..PoolConfig::default() };
    let pools = [(id(POOL), PoolConfig::default()), (id("joined"), joined), (id("other"), PoolConfig::default())];
    drop(bed.upstreams.reconfigure(pools.into()));
    let reader = bed.upstreams.reader();
    let key = reader.key(&id(POOL)).unwrap();
    let pool = |name: &str| Arc::clone(reader.table().pool(name).unwrap());
    let (other, joined) = (pool("other"), pool("joined"));
    bed.tell(endpoints(3)).await;
    assert_eq!(pool(POOL).members.len(), 3);
    assert!(Arc::ptr_eq(&other, &pool("other")) && !Arc::ptr_eq(&joined, &pool("joined")));
    assert!(pool("joined").has_ready() && !pool("other").is_known());
    bed.source.tell("unrelated", endpoints(2));
    let before = pool(POOL);
    bed.tell(endpoints(3)).await;
    until("the revision is followed", || reader.table().revision() == bed.source.snapshot.load().revision()).await;
    assert!(Arc::ptr_eq(&before, &pool(POOL)), "nothing changed for it");
    let former = bed.upstreams.reconfigure([(id("new"), PoolConfig::default())].into());
    assert!(reader.table().get(key).unwrap().has_ready(), "requests may still go by the configuration before");
    drop(former);
    assert_eq!(reader.key(&id(POOL)), Some(key), "keys stay");
    assert!(!reader.table().get(key).unwrap().has_ready(), "what the configuration no longer names has nobody");
    assert!(reader.table().pool("new").is_some() && reader.table().pool("nothing").is_none());
}

#[tokio::test]
async fn pools_of_former_configurations_are_followed_as_long_as_requests_go_by_them_however_often_there_is_another() {
    let mut bed = Bed::new(PoolConfig::default());
    bed.tell(endpoints(2)).await;
    let (reader, only) = (bed.upstreams.reader(), |name| [(id(name), PoolConfig::default())].into());
    let serves = || reader.table().pool(POOL).unwrap().has_ready();
    let first = bed.upstreams.reconfigure(only("second"));
    let second = bed.upstreams.reconfigure(only("third"));
    drop(second);
    assert!(serves(), "whoever goes by the first configuration is still there, and it is not the last one that ended");
    bed.tell(endpoints(3)).await;
    assert_eq!(reader.table().pool(POOL).unwrap().members.len(), 3, "it is followed");
    let limits = Limits { max_requests: Some(7), ..Limits::default() };
    drop(bed.upstreams.reconfigure([(id(POOL), PoolConfig { limits, ..PoolConfig::default() })].into()));
    assert_eq!(reader.table().pool(POOL).unwrap().config().limits, limits, "what the present one says holds");
    drop(bed.upstreams.reconfigure(only("third")));
    assert!(serves());
    drop(first);
    assert!(!serves(), "nobody goes by it any more");
    assert_eq!(*bed.upstreams.published().borrow().pools, [id("third")].into());
}

#[tokio::test]
async fn an_ejection_is_followed_to_its_end() {
    let outlier = OutlierConfig { base_ejection_time: Duration::from_millis(50), ..OutlierConfig::default() };
    let mut bed = Bed::new(PoolConfig { outlier: Some(outlier), ..PoolConfig::default() });
    bed.tell(endpoints(2)).await;
    let first = SocketAddr::from(([10, 0, 0, 1], 80));
    let asked = |bed: &Bed| (0..20).filter(|_| bed.pick().unwrap().address() == first).count();
    while asked(&bed) > 0 {
        let picked = bed.pick().unwrap();
        let failed = picked.address() == first;
        let outcome = if failed { Outcome::ConnectFailed } else { Outcome::Status(200) };
        picked.record(outcome, Duration::ZERO, Instant::now());
    }
    assert_eq!(bed.pool().members[0].host.tally.times(), 1);
    until("it is back", || asked(&bed) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_that_pick_while_pools_swap_miscount_nothing_and_go_nowhere_else() {
    const THREADS: usize = 4;
    let mut bed = Bed::new(PoolConfig::default());
    let pools = [(id(POOL), PoolConfig { balancer: Balancer::LeastRequest, ..PoolConfig::default() })];
    // A bed of its own: the number of threads is fixed at the start.
    let upstreams = Arc::new(Upstreams::start(
        UpstreamsConfig { pools: pools.into(), threads: THREADS, zone: None },
        Arc::clone(&bed.source.snapshot),
    ));
    upstreams.listener()(&bed.source.tell(POOL, endpoints(10)).unwrap());
    let reader = upstreams.reader();
    until("the first table", || reader.table().pool(POOL).is_some_and(|pool| pool.has_ready())).await;
    let (stop, picks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (reader, stop, picks) = (reader.clone(), Arc::clone(&stop), Arc::clone(&picks));
            std::thread::spawn(move || {
                let mut random = Random::new(thread as u64);
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let table = reader.table();
                    let pool = table.pool(POOL).unwrap();
                    let now = Instant::now();
                    let pick = Pick { now, random: random.next_u64(), thread, hash: None, tried: &[] };
                    let picked = pool.pick(&pick).unwrap();
                    // Ready in the very table that was read.
                    let here = pool.members.iter().find(|it| it.host.target.address() == picked.address()).unwrap();
                    assert!(here.endpoint.is_ready());
                    let outcome =
                        if random.next_u64().is_multiple_of(9) { Outcome::Reset } else { Outcome::Status(200) };
                    picked.record(outcome, Duration::from_micros(random.next_u64() % 900), now);
                    held.push(picked);
                    if held.len() > 20 {
                        held.swap_remove(random.next_u64() as usize % 20);
                    }
                    picks.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut random = Random::new(77);
    for _ in 0..300 {
        let count = 1 + (random.next_u64() % 12) as u8;
        let told = (1..=count).map(|last| {
            if last > 1 && random.next_u64().is_multiple_of(3) { draining(endpoint(last)) } else { endpoint(last) }
        });
        if let Some(published) = bed.source.tell(POOL, told.collect()) {
            upstreams.listener()(&published);
        }
        tokio::task::yield_now().await;
    }
    until("enough picks", || picks.load(Ordering::Relaxed) > 50_000).await;
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let pool = Arc::clone(reader.table().pool(POOL).unwrap());
    assert_eq!(pool.in_flight(), 0);
    assert!(pool.members.iter().all(|member| member.host.in_flight() == 0));
}
