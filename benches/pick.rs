//! What it costs to place a request: nanoseconds of processor time and allocations of a pick, its record and its end, for
//! each balancer and several sizes of pool, by one thread and by two at once. `cargo bench --bench pick`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench ends at the first failure, and prints"
)]
#![allow(unsafe_code, reason = "an allocator that counts cannot be written without; it adds nothing but the count")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_gettime};
use tidegate::endpoints::config::HoldConfig;
use tidegate::endpoints::pool::{Endpoint, PoolContent, PoolId};
use tidegate::endpoints::{Registry, Shard, SourceEvent, Update};
use tidegate::upstream::{Balancer, Outcome, Pick, PoolConfig, PoolKey, Random, Reader, Upstreams, UpstreamsConfig};

/// Picks of one measurement.
const PICKS: u32 = 2_000_000;
/// Measurements of each row, of which the median counts.
const ROUNDS: usize = 5;
/// What a pick may cost.
const TARGET_NS: f64 = 100.0;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on as it came; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[tokio::main]
async fn main() {
    println!(
        "{:>16} {:>10} {:>8} {:>12} {:>12} {:>12}  target",
        "balancer", "endpoints", "weights", "ns", "ns, 2 at once", "allocations"
    );
    let mut missed = false;
    for (name, balancer) in Balancer::NAMES {
        for (count, weighted) in [(3_u32, false), (100, false), (100, true), (1_000, true)] {
            let (reader, key, _upstreams) = pool(balancer, count, weighted);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            let alone = median((0..ROUNDS).map(|_| picks(&reader, key, 0)));
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            let together = median((0..ROUNDS).map(|_| together(&reader, key)));
            let met = alone < TARGET_NS && allocations < 100;
            missed |= !met;
            let weights = if weighted { "unequal" } else { "equal" };
            let verdict = if met { "met" } else { "MISSED" };
            println!("{name:>16} {count:>10} {weights:>8} {alone:>12.1} {together:>12.1} {allocations:>12}  {verdict}");
        }
    }
    println!(
        "target: below {TARGET_NS} ns alone, no allocation a pick; a pick reads the table, picks, records a 200, ends"
    );
    if missed {
        println!("a target is missed");
    }
}

/// A pool that is followed.
fn pool(balancer: Balancer, count: u32, weighted: bool) -> (Reader, PoolKey, Upstreams) {
    let id = PoolId::parse("bench").unwrap();
    let hold = HoldConfig { max_drop_percent: 100, max_age: Duration::ZERO };
    let mut registry = Registry::new(vec![Shard::new("bench".into(), None)], Vec::new(), hold, None);
    let endpoint = |at: u32| {
        let weight = if weighted { 1 + at % 7 } else { 1 };
        Endpoint { weight, ..Endpoint::new([10, 0, (at >> 8) as u8, at as u8].into(), 80) }
    };
    let endpoints = (0..count).map(endpoint).collect();
    let content = PoolContent { id: id.clone(), endpoints, namespace: None, labels: Arc::default(), relayed: None };
    registry.apply(0, SourceEvent::Pools(vec![Update::Add(content)]), SystemTime::now());
    let snapshot = Arc::new(ArcSwap::new(registry.publish().unwrap().snapshot));
    let config = PoolConfig { balancer, ..PoolConfig::default() };
    let upstreams =
        Upstreams::start(UpstreamsConfig { pools: [(id.clone(), config)].into(), threads: 2, zone: None }, snapshot);
    let reader = upstreams.reader();
    let key = reader.key(&id).unwrap();
    (reader, key, upstreams)
}

/// Nanoseconds of this thread's processor time a pick.
fn picks(reader: &Reader, key: PoolKey, thread: usize) -> f64 {
    let mut random = Random::new(thread as u64 + 1);
    let now = Instant::now();
    let began = cpu();
    for _ in 0..PICKS {
        let table = reader.table();
        let pool = table.get(key).unwrap();
        let (random, hash) = (random.next_u64(), random.next_u64());
        let picked = pool.pick(&Pick { now, random, thread, hash: Some(hash), tried: &[] }).unwrap();
        picked.record(Outcome::Status(200), Duration::from_micros(random >> 54), now);
        black_box(&picked);
    }
    (cpu() - began).as_secs_f64() * 1e9 / f64::from(PICKS)
}

/// The same by two threads at once; the slower one's.
fn together(reader: &Reader, key: PoolKey) -> f64 {
    let threads = [0, 1].map(|thread| {
        let reader = reader.clone();
        std::thread::spawn(move || picks(&reader, key, thread))
    });
    threads.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max)
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
