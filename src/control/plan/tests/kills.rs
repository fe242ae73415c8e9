//! Controllers that are killed at a write.

/// Where a controller is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// The write was not made.
    Before(usize),
    /// It was made, and nobody knows.
    After(usize),
}

/// What a controller writes to.
pub(super) trait Written {
    type Write;
    type Status;

    /// Writes that were begun so far.
    fn writes(&mut self) -> &mut usize;

    /// Makes a write, if it is legal.
    fn write(&mut self, write: Self::Write) -> Result<(), String>;

    fn persist(&mut self, status: Self::Status);

    /// Makes writes in their order and persists a status after them, until the controller is killed. Says how many it began.
    fn write_all(
        &mut self,
        writes: Vec<Self::Write>,
        status: Option<Self::Status>,
        kill: Option<Kill>,
    ) -> Result<usize, String> {
        let first = *self.writes();
        let all = writes.into_iter().map(Due::Write).chain(status.map(Due::Status));
        for (due, at) in all.zip(first..) {
            *self.writes() = at + 1;
            if kill == Some(Kill::Before(at)) {
                break;
            }
            match due {
                Due::Write(write) => self.write(write)?,
                Due::Status(status) => self.persist(status),
            }
            if kill == Some(Kill::After(at)) {
                break;
            }
        }
        Ok(*self.writes() - first)
    }
}

enum Due<W, S> {
    Write(W),
    Status(S),
}
