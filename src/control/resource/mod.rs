//! The custom resources of group `tidegate.dev`, from which their definitions are generated (`tidegate crd`).
//!
//! | kind | who writes it | what it is |
//! |---|---|---|
//! | [`App`](app::App) | people | an application: count, pods, strategy |
//! | [`Release`](release::Release) | people and machines create, the controller reports | one deploy; also its history |
//! | [`AppScale`](scale::AppScale) | the controller makes it, an autoscaler writes its count | the count of an App that is autoscaled |
//! | [`Approval`](approval::Approval) | people | a word for or against a release's digest |
//! | [`RolloutBlock`](approval::RolloutBlock) | people | a window in which nothing is rolled out |
//! | [`AppTemplate`](catalogue::AppTemplate) | people | defaults of Apps of one kind |
//! | [`TrafficPolicy`](crate::kubernetes::policy::TrafficPolicy) | the controller | a pool that deploys switch |

pub mod app;
pub mod approval;
pub mod catalogue;
pub mod clusters;
pub mod definitions;
pub mod environment;
pub mod exposure;
pub mod failure;
pub mod gate;
pub mod hooks;
pub mod moment;
pub mod progress;
pub mod release;
pub mod revision;
pub mod scale;
pub mod strategy;
pub mod times;

use schemars::{Schema, SchemaGenerator, json_schema};

/// The API group.
pub const GROUP: &str = "tidegate.dev";

/// The API group's version.
pub const GROUP_VERSION: &str = "tidegate.dev/v1alpha1";

/// A list of such objects.
pub(super) fn any_objects(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 32, "items": any_object(generator) })
}

/// An object whose fields are another resource's: the API server checks them when that is made.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
