//! Kafka away, in every way that a test can bring about: what was acknowledged is there, in order and once; what was not
//! is told; memory stays bounded.

mod broker;
mod cluster;
mod network;

pub(crate) use cluster::topic_led_by;

use crate::bed::Tidegate;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Three quarters of the 64 MiB that a process may take beside its records; the rest is for its code. That is not measured
/// here: a build without optimisation has several times as much of it, and the system may drop it.
const BESIDE: u64 = 48 << 20;

/// Watches a process's memory until dropped or asked: what is its own, without the pages of its files.
pub(crate) struct MemoryWatch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    pub(crate) fn start(tidegate: &Tidegate) -> Self {
        let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let status = format!("/proc/{}/status", tidegate.pid());
        let thread = std::thread::spawn({
            let (stop, most) = (stop.clone(), most.clone());
            move || {
                crate::bed::poll(std::time::Duration::from_secs(300), || {
                    let text = std::fs::read_to_string(&status).unwrap_or_default();
                    let rss = text.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
                    let bytes = rss.and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok()).unwrap_or(0) * 1024;
                    most.fetch_max(bytes, Ordering::Relaxed);
                    stop.load(Ordering::Relaxed).then_some(())
                });
            }
        });
        Self { stop, most, thread: Some(thread) }
    }

    /// The most that was seen. Panics where that is more than the limit and what is allowed beside it.
    pub(crate) fn assert_within(mut self, memory_limit: u64) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("asked once").join().expect("it does not panic");
        let most = self.most.load(Ordering::Relaxed);
        println!("memory: at most {} MiB, the limit on records is {} MiB", most >> 20, memory_limit >> 20);
        assert!(most > 0, "nothing was measured");
        assert!(most <= memory_limit + BESIDE, "{} MiB", most >> 20);
        most
    }
}
