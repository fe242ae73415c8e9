//! The controller is killed at every write that it makes, before the API server has it and after.

use serde_json::{Value, json};

use crate::bed::{WorkDir, poll};
use crate::faults::{Before, End, strategies};
use crate::kube::{ApiProxy, Lost};
use crate::support::{SOON, cluster};

/// More lives than a deploy has writes.
const LIVES: usize = 120;

/// A deploy with a controller that is killed at each write in turn. Gives the end, and how many died.
fn deploy(strategy: &Value, floor: usize, kills: bool) -> (End, usize) {
    let proxy = ApiProxy::start(cluster());
    let files = WorkDir::new("proxied");
    let kubeconfig = files.write("kubeconfig", proxy.kubeconfig());
    let mut before = Before::start(strategy, floor, &kubeconfig);
    before.control.kill();
    let stage = &before.stage;
    stage.free_lease();
    stage.release("web", "web-2", "web:2", &json!({}));
    let mut died = 0;
    for life in 0..LIVES {
        if before.is_healthy() {
            break;
        }
        if kills {
            // Even lives lose their first write, odd ones its answer: so each write is met by both.
            proxy.lose_write("/leases", if life % 2 == 0 { Lost::Request } else { Lost::Answer });
        }
        let mut control = stage.control_over(&kubeconfig, "");
        let over = poll(SOON, || {
            if kills && proxy.has_lost() {
                return Some(true);
            }
            before.is_healthy().then_some(false)
        });
        control.kill();
        stage.free_lease();
        died +=
            usize::from(over.unwrap_or_else(|| {
                panic!("neither a write nor the end: {:#}\n{}", stage.status("web-2"), control.log())
            }));
    }
    assert!(before.is_healthy(), "{:#}", stage.status("web-2"));
    proxy.heal();
    // What is left to do after the end is done by one that lives.
    let control = stage.control_over(&kubeconfig, "");
    let end = poll(SOON, || before.end()).unwrap_or_else(|| panic!("{:?}\n{}", stage.counts(), control.log()));
    before.judge(&format!("after {died} controllers were killed"));
    (end, died)
}

#[test]
fn a_controller_that_is_killed_at_every_write_leaves_the_same_end() {
    for (name, strategy, floor) in strategies() {
        let (wanted, _) = deploy(&strategy, floor, false);
        let (end, died) = deploy(&strategy, floor, true);
        assert_eq!(end, wanted, "{name}");
        // Status, Service, Deployment, traffic, count: each met before and after.
        assert!(died >= 12, "{name}: only {died} were killed");
        println!("{name:10} {died} controllers killed");
    }
}
