//! What releases are given in these tests: every strategy, and a goal.

use std::time::Duration;

use super::super::Goal;
use crate::control::resource::failure::FailurePolicy;
use crate::control::resource::release::Control;
use crate::control::resource::strategy::{
    Batch, BatchOrder, BlueGreen, Canary, CanaryStep, Migrate, OnFailure, Rolling, ShareStep, Strategy,
};
use crate::kubernetes::policy::{FieldValues, RequestMatch};

/// What requests have after a switch, in every strategy of these tests.
pub(super) const DRAIN: u32 = 7;

/// Those whose header `x-canary` says yes.
pub(super) fn requests() -> RequestMatch {
    let header = FieldValues { name: "x-canary".to_owned(), values: vec!["yes".to_owned()] };
    RequestMatch { headers: vec![header], ..RequestMatch::default() }
}

pub(in crate::control::plan) fn strategies() -> Vec<(&'static str, Strategy)> {
    let none = Strategy::default;
    let batch = |batches, order| Batch { batches, order, pause_seconds: None, drain_seconds: DRAIN };
    let blue_green = |preview| Some(BlueGreen { approval: false, scale_down_delay_seconds: DRAIN, preview });
    let shares =
        || vec![ShareStep { share: 10, pause_seconds: Some(5) }, ShareStep { share: 50, pause_seconds: Some(0) }];
    let step =
        |it: ShareStep| CanaryStep { share: Some(it.share), pause_seconds: it.pause_seconds, ..CanaryStep::default() };
    let canary = |steps| Some(Canary { steps, scale_down_delay_seconds: DRAIN });
    let header = CanaryStep {
        set_match: Some(requests()),
        pod_percent: Some(30),
        pause_seconds: Some(5),
        ..CanaryStep::default()
    };
    let matched = vec![header, CanaryStep { share: Some(10), ..CanaryStep::default() }];
    vec![
        ("blueGreen", Strategy { blue_green: blue_green(None), ..none() }),
        ("surge", Strategy { batch: Some(batch(3, BatchOrder::SurgeFirst)), ..none() }),
        ("shrink", Strategy { batch: Some(batch(3, BatchOrder::ShrinkFirst)), ..none() }),
        ("canary", Strategy { canary: canary(shares().into_iter().map(step).collect()), ..none() }),
        ("rolling", Strategy { rolling: Some(Rolling { max_surge: 2, drain_seconds: DRAIN }), ..none() }),
        ("migrate", Strategy { migrate: Some(Migrate { from: "vm/old".to_owned(), steps: shares() }), ..none() }),
        ("preview", Strategy { blue_green: blue_green(Some(requests())), ..none() }),
        ("header", Strategy { canary: canary(matched), ..none() }),
    ]
}

pub(in crate::control::plan) fn goal(strategy: Strategy) -> Goal {
    Goal {
        app: "shop/web".to_owned(),
        release: "web-2".to_owned(),
        revision: "new".to_owned(),
        strategy,
        rollback: false,
        promoted: false,
        control: Control::default(),
        held: None,
        on_failure: OnFailure::Pause,
        failure_policy: FailurePolicy::default(),
        progress_deadline: Duration::from_secs(600),
        acknowledge_timeout: Duration::from_secs(60),
        history_limit: 1,
    }
}
