//! Looking at a spool without taking it: for the operator, beside a running process or after one.
//!
//! Nothing is locked, written or cut off. A running process goes on meanwhile: a segment that it deletes, or whose file it
//! writes again, is passed over, and what it has not finished writing is counted as unfinished, not as damage.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::checkpoint::{self, Checkpoint, LaneProgress};
use super::disk::{Disk, DiskFile, RealDisk, read_full};
use super::engine::Paths;
use super::frame::{self, Header, Kind};
use super::lock::read_format;
use super::marks::Marks;
use super::open::OpenError;
use super::position::FrameId;
use super::record::Record;
use super::scan::{Source, is_sound};
use super::segment::{FIRST_FRAME, HEADER_BYTES, SegmentHeader, parse_name};

/// A directory that is looked at.
pub struct Survey {
    paths: Paths,
    disk: RealDisk,
    progress: HashMap<(String, Option<i32>), LaneProgress>,
    /// Whether there is a checkpoint that can be read.
    pub has_checkpoint: bool,
}

/// A segment that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSurvey {
    /// Its file.
    pub path: PathBuf,
    /// Its sequence.
    pub sequence: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Whether its header, and so its frames, can be read.
    pub is_readable: bool,
    /// Damaged stretches between frames, in bytes from its beginning.
    pub damage: Vec<Range<u64>>,
    /// Bytes at the end that are no whole frame: a write that was not finished or goes on, or what an earlier segment left
    /// in the same file.
    pub unfinished: u64,
}

/// A frame that was met.
pub struct FrameSurvey<'a> {
    /// Where it is.
    pub id: FrameId,
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None` where it is chosen at replay.
    pub partition: Option<i32>,
    /// True where its records were at Kafka's client too.
    pub is_guard: bool,
    /// Its records.
    pub count: u32,
    /// Those of them that the checkpoint knows as done.
    pub done: u32,
    /// When the first record was received, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Bytes of the frame.
    pub bytes: u64,
    header: &'a Header<'a>,
    source: &'a Source<'a>,
    marks: Marks,
}

// === impl Survey ===

impl Survey {
    /// Reads the directory's format and checkpoint.
    ///
    /// # Errors
    /// It is no spool, one of another format, or the disk refused.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let (paths, disk) = (Paths::new(directory), RealDisk);
        if read_format(&disk, &paths.root)?.is_none() {
            let cause = io::Error::new(io::ErrorKind::NotFound, "is no spool: it has no file \"format\"");
            return Err(OpenError::Disk { path: paths.root, cause });
        }
        let checkpoint = checkpoint::read(&disk, &paths.root)
            .map_err(|cause| OpenError::Disk { path: paths.root.clone(), cause })?;
        let has_checkpoint = checkpoint.is_some();
        let Checkpoint { lanes, .. } = checkpoint.unwrap_or_default();
        let progress = lanes.into_iter().map(|lane| ((lane.topic.clone(), lane.partition), lane)).collect();
        Ok(Self { paths, disk, progress, has_checkpoint })
    }

    /// The files of segments, in order, with their bytes.
    ///
    /// # Errors
    /// The disk refused.
    pub fn segments(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut segments: Vec<(u64, u64)> = Vec::new();
        for sequence in self.disk.list(&self.paths.segments)?.iter().filter_map(|name| parse_name(name)) {
            let length = self.disk.open(&self.paths.segment(sequence)).and_then(|file| file.length());
            segments.extend(length.ok().map(|length| (sequence, length)));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// The files in quarantine, with their bytes.
    ///
    /// # Errors
    /// The disk refused.
    pub fn quarantine(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        for name in self.disk.list(&self.paths.quarantine)? {
            let path = self.paths.quarantine.join(name);
            let length = self.disk.open(&path).and_then(|file| file.length());
            files.extend(length.ok().map(|length| (path, length)));
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Goes over one segment and calls for each good frame, in order. With `verify` each record is read; else headers
    /// alone. `None`: it is gone.
    ///
    /// # Errors
    /// The disk refused, or `each` did.
    pub fn walk(
        &self,
        sequence: u64,
        verify: bool,
        each: &mut dyn FnMut(FrameSurvey<'_>) -> io::Result<()>,
    ) -> io::Result<Option<SegmentSurvey>> {
        let path = self.paths.segment(sequence);
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = file.length()?;
        let header = header_of(&*file)?.filter(|header| header.sequence == sequence);
        let mut survey = SegmentSurvey {
            path,
            sequence,
            bytes,
            is_readable: header.is_some(),
            damage: Vec::new(),
            unfinished: if header.is_some() { bytes } else { 0 },
        };
        let Some(header) = header else { return Ok(self.unless_gone(survey)) };
        let end = self.end_of(sequence)?;
        let until = end.unwrap_or(bytes).min(bytes);
        let source = Source { file: &*file, sequence, marker: header.marker };
        let mut outcome = Ok(());
        let scanned = source.scan(until, verify, &mut |offset, header| {
            if outcome.is_ok() {
                outcome = each(self.frame(&source, FrameId::new(sequence, offset), header));
            }
        });
        outcome?;
        survey.damage = scanned.holes;
        survey.unfinished = bytes.saturating_sub(scanned.end.max(until.min(FIRST_FRAME)));
        if end.is_some() && scanned.end < until {
            survey.damage.push(scanned.end..until);
            survey.unfinished = bytes - until;
        }
        Ok(if survey.damage.is_empty() { Some(survey) } else { self.unless_gone(survey) })
    }

    /// What looks like damage may be the file's next use: it loses its name before that begins.
    fn unless_gone(&self, survey: SegmentSurvey) -> Option<SegmentSurvey> {
        let gone = self.disk.open(&survey.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        (!gone).then_some(survey)
    }

    /// Where a segment ends, as the one after it says.
    fn end_of(&self, sequence: u64) -> io::Result<Option<u64>> {
        for (next, _) in self.segments()?.into_iter().filter(|(next, _)| *next > sequence) {
            let Ok(file) = self.disk.open(&self.paths.segment(next)) else { continue };
            if let Some(header) = header_of(&*file)? {
                let previous = header.previous;
                return Ok((previous.segment == sequence).then_some(previous.offset));
            }
        }
        Ok(None)
    }

    fn frame<'a>(&self, source: &'a Source<'a>, id: FrameId, header: &'a Header<'a>) -> FrameSurvey<'a> {
        let progress = self.progress.get(&(header.topic.to_owned(), header.partition));
        let mut marks = Marks::default();
        match progress {
            Some(progress) if id < progress.cursor => {
                marks.add(0..header.count);
            }
            Some(progress) => {
                let known = progress.exceptions.iter().filter(|(frame, _)| *frame == id);
                for range in known.flat_map(|(_, marks)| marks.ranges()) {
                    marks.add(range.start..range.end.min(header.count));
                }
            }
            None => {}
        }
        FrameSurvey {
            id,
            topic: header.topic,
            partition: header.partition,
            is_guard: header.kind == Kind::Guard,
            count: header.count,
            done: marks.count(),
            timestamp_ms: header.first_timestamp_ms,
            bytes: header.frame_length(),
            header,
            source,
            marks,
        }
    }
}

impl FrameSurvey<'_> {
    /// Calls for each record with whether it is done; false where the frame is damaged.
    ///
    /// # Errors
    /// The disk refused, or `each` did.
    pub fn records(
        &self,
        body: &mut Vec<u8>,
        each: &mut dyn FnMut(&Record<'_>, bool) -> io::Result<()>,
    ) -> io::Result<bool> {
        if !self.source.read_body(self.id.offset, self.header, body)? || !is_sound(self.header, body) {
            return Ok(false);
        }
        for (index, record) in (0..).zip(frame::records(body, self.timestamp_ms)) {
            each(&record, self.marks.has(index))?;
        }
        Ok(true)
    }
}

fn header_of(file: &dyn DiskFile) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; HEADER_BYTES];
    let read = read_full(file, &mut bytes, 0)?;
    Ok(SegmentHeader::parse(bytes.get(..read).unwrap_or_default()))
}
