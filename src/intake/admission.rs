//! What bounds a push: its route's rate limit, and the byte budget.

use super::metrics::Refusal;
use super::push::{Binding, Desk, NotTaken, Pusher, Size};
use crate::record::config::RatePer;
use crate::record::route::Route;
use crate::record::sink::RecordSink;

// === impl Desk ===

impl<S: RecordSink> Desk<'_, S> {
    /// Takes the records of a push from the route's rate limit, if it has one.
    #[inline]
    pub(super) fn admit(&mut self, binding: &Binding, size: Size, key: &[u8]) -> Result<(), NotTaken> {
        match &binding.limit {
            None => Ok(()),
            Some(bucket) if bucket.try_take(size.records, self.shared.nanos(self.now)) => Ok(()),
            Some(_) => Err(self.over_limit(&binding.route, size, key)),
        }
    }

    /// Undoes [`Desk::admit`] of a push that was not taken after all.
    pub(super) fn readmit(&self, binding: &Binding, size: Size) {
        if let Some(bucket) = &binding.limit {
            bucket.give_back(size.records);
        }
    }

    #[cold]
    fn over_limit(&mut self, route: &Route, size: Size, key: &[u8]) -> NotTaken {
        let Some(limit) = &route.config.rate_limit else { return NotTaken::NoRoom };
        let key = String::from_utf8_lossy(key.get(..128).unwrap_or(key));
        let from = match limit.per {
            RatePer::Route => "",
            RatePer::Client => " from one client",
        };
        let (rate, burst) = (limit.records_per_second, limit.burst);
        let text = if u64::from(size.records) > burst {
            let records = size.records;
            format!("rate limit of key '{key}': a command of {records} records is above the route's burst of {burst}")
        } else {
            format!("rate limit of key '{key}': the route takes {rate} records a second{from}, {burst} at once")
        };
        let reply = self.wrong(route, Refusal::RateLimit, u64::from(size.records), &text);
        NotTaken::Refused(route.config.on_refusal, reply)
    }

    /// Takes a push's cost from the budget, or says whether to wait for room or to give up.
    #[inline]
    pub(super) fn reserve(&mut self, size: Size, route: &Route, who: &Pusher<'_>) -> Result<(), NotTaken> {
        if self.allowance.try_take(size.cost) {
            *self.starved_since = None;
            return Ok(());
        }
        self.no_room(size, route, who)
    }

    #[cold]
    fn no_room(&mut self, size: Size, route: &Route, who: &Pusher<'_>) -> Result<(), NotTaken> {
        let limit = self.shared.budget.limit();
        let text = if size.cost > limit {
            format!("the records of this command need {} bytes, the memory limit is {limit}", size.cost)
        } else {
            // While there is no room no socket is read: what is read after a drought has waited through it.
            let since = (*self.starved_since.get_or_insert(self.now)).min(who.arrived);
            if self.now.duration_since(since) < route.config.hold {
                return Err(NotTaken::NoRoom);
            }
            format!("the memory limit of {limit} bytes is used up by records that Kafka has not confirmed")
        };
        let reply = self.wrong(route, Refusal::Memory, u64::from(size.records), &text);
        Err(NotTaken::Refused(route.config.on_refusal, reply))
    }
}
