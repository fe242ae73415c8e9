//! How long new pods took, part by part.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the time of new pods went, in seconds, as Kubernetes tells it: to the second. They are the parts of the pod that took
/// longest from when it was made until it was ready, and their sum is that time, but for `ours`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTimes {
    /// New pods that were ready at the end, of which that one took longest.
    pub pods: u32,
    /// Its name.
    pub slowest: String,
    /// Until a node took it.
    pub schedule: u32,
    /// Pulling its images, as its Events tell; 0 where they were there, or where Events cannot be read.
    pub pull: u32,
    /// Volumes, network and init containers, beforeStart among them.
    pub init: u32,
    /// Making its containers, and their own start.
    pub start: u32,
    /// The part of their start in which its probes did not ask yet: `initialDelaySeconds`.
    pub probe_delay: u32,
    /// From the release's beginning until its first new pod was made: Tidegate's own, and the Deployment controller's.
    pub ours: u32,
}

// === impl PodTimes ===

impl PodTimes {
    /// Each part by its name, in seconds.
    pub fn parts(&self) -> [(&'static str, u32); 6] {
        [
            ("schedule", self.schedule),
            ("pull", self.pull),
            ("init", self.init),
            ("start", self.start),
            ("probe_delay", self.probe_delay),
            ("ours", self.ours),
        ]
    }
}
