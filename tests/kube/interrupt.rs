//! What a test does in the middle of a write that goes through a proxy: at exactly one of those about an object and what is named
//! after it, which is held meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Method;

/// How far a write is that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The API server has not heard of it.
    Before,
    /// It is made, and who made it does not know.
    After,
}

/// What is done then.
type Act = Box<dyn FnOnce() + Send>;

/// What is to be done at a write that came.
pub(super) struct Due(Option<(Moment, Act)>);

/// All that is to be done.
#[derive(Default)]
pub(super) struct Interrupts(Mutex<Vec<Interrupt>>);

/// What is to be done at one write.
struct Interrupt {
    /// Writes are counted that have this in their path or, where they create something, in what they create.
    about: String,
    /// How many came.
    writes: usize,
    /// The write's number among them, from 0.
    number: usize,
    due: Due,
}

// === impl Interrupts ===

impl Interrupts {
    pub(super) fn add(&self, about: &str, number: usize, moment: Moment, act: impl FnOnce() + Send + 'static) {
        let due = Due(Some((moment, Box::new(act))));
        self.lock().push(Interrupt { about: about.to_owned(), writes: 0, number, due });
    }

    /// A request as it came, and what is to be done at it.
    pub(super) async fn at(&self, request: Request) -> (Request, Due) {
        if request.method() == Method::GET || self.lock().is_empty() {
            return (request, Due(None));
        }
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, super::proxy::MOST).await.expect("a body");
        let created = if parts.method == Method::POST { String::from_utf8_lossy(&body) } else { "".into() };
        let is_about = |it: &&mut Interrupt| parts.uri.path().contains(&it.about) || created.contains(&it.about);
        let due = self.lock().iter_mut().find(is_about).map_or(Due(None), Interrupt::count);
        (Request::from_parts(parts, Body::from(body)), due)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Interrupt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Interrupt ===

impl Interrupt {
    /// Counts one more write; gives what is to be done at it.
    fn count(&mut self) -> Due {
        self.writes += 1;
        Due(self.due.0.take_if(|_| self.writes == self.number + 1))
    }
}

// === impl Due ===

impl Due {
    /// Does what is to be done at this moment, if anything. It may block.
    pub(super) async fn at(&mut self, moment: Moment) {
        if let Some((_, act)) = self.0.take_if(|(at, _)| *at == moment) {
            tokio::task::spawn_blocking(act).await.expect("what a test does in the middle of a write");
        }
    }
}
