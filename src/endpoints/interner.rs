//! One text in memory for all who name the same zone, node, namespace, service or port.

use std::collections::HashSet;
use std::sync::Arc;

/// Known texts. Those that nobody uses any more are dropped whenever their number has doubled.
#[derive(Debug)]
pub(super) struct Interner {
    texts: HashSet<Arc<str>>,
    /// At how many texts to look for unused ones next.
    look_at: usize,
}

/// Below so many it is not worth looking.
const LEAST: usize = 10_000;

// === impl Interner ===

impl Default for Interner {
    fn default() -> Self {
        Self { texts: HashSet::new(), look_at: LEAST }
    }
}

impl Interner {
    /// The text, shared with whoever has asked for it before.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= self.look_at {
            self.texts.retain(|known| Arc::strong_count(known) > 1);
            self.look_at = LEAST.max(2 * self.texts.len());
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_unused_ones_are_forgotten() {
        let mut interner = Interner::default();
        let zone = interner.get("a");
        assert!(Arc::ptr_eq(&zone, &interner.get("a")));
        (0..3 * LEAST).for_each(|number| drop(interner.get(&format!("pod-{number}"))));
        assert!(interner.texts.len() <= LEAST);
        assert!(Arc::ptr_eq(&zone, &interner.get("a")), "what is used stays");
    }

    #[test]
    fn many_texts_that_are_all_used_are_not_looked_through_at_each_new_one() {
        let mut interner = Interner::default();
        let kept: Vec<_> = (0..3 * LEAST).map(|number| interner.get(&format!("pod-{number}"))).collect();
        assert_eq!(kept.len(), interner.texts.len());
        assert!(interner.look_at > interner.texts.len());
    }
}
