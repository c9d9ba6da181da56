//! A directory in memory that fails, and what is left of it when the process or the machine stops.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Files};

/// A directory. Clones are the same one.
#[derive(Debug, Clone)]
pub(in super::super) struct Faulty(Arc<Mutex<State>>);

/// How often something fails, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Faults {
    /// The disk is full: a part of what was to be written is there.
    pub(in super::super) full: u64,
    pub(in super::super) truncate: u64,
    pub(in super::super) sync: u64,
    pub(in super::super) remove: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ending {
    /// Of the process: what it has written is there.
    Killed,
    /// Of the machine: of what was not made safe, a part is gone; of a file, what is behind the first part that is.
    PowerCut,
    /// The same, but files have the length that they had, and zeros where something is gone.
    PowerCutWithHoles,
}

#[derive(Debug)]
struct State {
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    contents: Vec<Content>,
    faults: Faults,
    random: Random,
    /// The process is stopped within the operation with this number from now on.
    stops_in: Option<u64>,
    has_stopped: bool,
}

#[derive(Debug, Clone, Default)]
struct Content {
    data: Vec<u8>,
    /// What a power cut leaves at least.
    safe: Vec<u8>,
    unsafe_parts: Vec<Range<usize>>,
}

/// A file of it.
#[derive(Debug)]
pub(in super::super) struct FaultyFile {
    directory: Faulty,
    content: usize,
}

/// Numbers that look like chance, the same ones for the same seed.
#[derive(Debug, Clone)]
pub(in super::super) struct Random(pub(in super::super) u64);

impl Random {
    pub(in super::super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of the numbers below that.
    pub(in super::super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(in super::super) fn happens(&mut self, in_a_thousand: u64) -> bool {
        self.below(1_000) < in_a_thousand
    }
}

impl Faulty {
    pub(in super::super) fn new(seed: u64) -> Self {
        Faulty(Arc::new(Mutex::new(State {
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            contents: Vec::new(),
            faults: Faults::default(),
            random: Random(seed),
            stops_in: None,
            has_stopped: false,
        })))
    }

    pub(in super::super) fn set_faults(&self, faults: Faults) {
        self.0.lock().faults = faults;
    }

    pub(in super::super) fn stop_in(&self, operations: u64) {
        self.0.lock().stops_in = Some(operations);
    }

    pub(in super::super) fn has_stopped(&self) -> bool {
        self.0.lock().has_stopped
    }

    /// What the next process finds.
    pub(in super::super) fn after(&self, ending: Ending) -> Self {
        let mut state = self.0.lock();
        let State { names, safe_names, contents, random, .. } = &mut *state;
        if ending != Ending::Killed {
            for content in contents.iter_mut() {
                content.lose_power(ending == Ending::PowerCutWithHoles, random);
            }
            // Names were taken back or not, each by itself.
            let all: Vec<_> = names.iter().chain(safe_names.iter()).map(|(name, at)| (name.clone(), *at)).collect();
            for (name, content) in all {
                let (is_there, was_there) = (names.contains_key(&name), safe_names.contains_key(&name));
                if is_there != was_there && random.happens(500) {
                    match was_there {
                        true => names.insert(name, content),
                        false => names.remove(&name),
                    };
                }
            }
            *safe_names = names.clone();
        }
        let next = Faulty::new(random.next());
        {
            let mut found = next.0.lock();
            (found.names, found.safe_names) = (names.clone(), safe_names.clone());
            found.contents = contents.clone();
        }
        next
    }

    /// Changes one bit of a file, or takes a file away that is not the newest with records, nor will be after a power
    /// cut: what is left then is a whole log of before. Whether there was something to be damaged.
    pub(in super::super) fn damage(&self) -> bool {
        let mut state = self.0.lock();
        let State { names, safe_names, contents, random, .. } = &mut *state;
        let at = random.below(names.len() as u64) as usize;
        let Some((name, &content)) = names.iter().nth(at) else { return false };
        let name = name.clone();
        let mut newer = names.iter().skip(at + 1).filter(|(name, _)| safe_names.contains_key(*name));
        if newer.any(|(_, content)| contents[*content].safe.len() > 200) && random.happens(200) {
            names.remove(&name);
            return true;
        }
        let data = &mut contents[content].data;
        let at = random.below(data.len() as u64) as usize;
        let bit = 1 << random.below(8);
        data.get_mut(at).map(|byte| *byte ^= bit).is_some()
    }
}

impl Content {
    fn lose_power(&mut self, has_holes: bool, random: &mut Random) {
        let mut left = self.safe.clone();
        if self.data.len() < left.len() && random.happens(500) {
            left.truncate(self.data.len());
        }
        for part in &self.unsafe_parts {
            let part = part.start.min(self.data.len())..part.end.min(self.data.len());
            let kept = random.below(part.len() as u64 + 1) as usize;
            let is_whole = random.happens(400);
            let kept = if is_whole { part.len() } else { kept };
            left.resize(left.len().max(part.start + if has_holes { part.len() } else { kept }), 0);
            left[part.start..part.start + kept].copy_from_slice(&self.data[part.start..part.start + kept]);
            if !has_holes && kept < part.len() {
                break;
            }
        }
        *self = Content { data: left.clone(), safe: left, unsafe_parts: Vec::new() };
    }
}

impl State {
    /// Whether an operation is the one in which the process stops.
    ///
    /// # Errors
    /// It has stopped.
    fn operate(&mut self) -> io::Result<bool> {
        if self.has_stopped {
            return Err(io::Error::other("the process has stopped"));
        }
        self.stops_in = self.stops_in.map(|left| left.saturating_sub(1));
        self.has_stopped = self.stops_in == Some(0);
        Ok(self.has_stopped)
    }

    /// The same for one of which nothing is done then, and that fails now and then.
    fn succeed(&mut self, in_a_thousand: u64) -> io::Result<()> {
        let stops = self.operate()?;
        match stops || self.random.happens(in_a_thousand) {
            true => Err(io::Error::other("it failed")),
            false => Ok(()),
        }
    }
}

impl Files for Faulty {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.0.lock();
        let content = state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(state.contents[*content].data.clone())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.0.lock();
        let in_a_thousand = state.faults.full;
        state.succeed(in_a_thousand)?;
        let content = state.contents.len();
        state.contents.push(Content::default());
        assert!(state.names.insert(name.to_owned(), content).is_none(), "{name} is there");
        Ok(FaultyFile { directory: self.clone(), content })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let state = self.0.lock();
        let content = *state.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(FaultyFile { directory: self.clone(), content })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let in_a_thousand = state.faults.remove;
        state.succeed(in_a_thousand)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        let in_a_thousand = state.faults.sync;
        state.succeed(in_a_thousand)?;
        state.safe_names = state.names.clone();
        Ok(())
    }
}

impl File for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.directory.0.lock();
        let stops = state.operate()?;
        let in_a_thousand = state.faults.full;
        let fails = stops || state.random.happens(in_a_thousand);
        let written = if fails { state.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        let Content { data, unsafe_parts, .. } = &mut state.contents[self.content];
        unsafe_parts.push(data.len()..data.len() + written);
        data.extend_from_slice(&bytes[..written]);
        if fails { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut state = self.directory.0.lock();
        let in_a_thousand = state.faults.truncate;
        state.succeed(in_a_thousand)?;
        state.contents[self.content].data.truncate(size as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.directory.0.lock();
        let in_a_thousand = state.faults.sync;
        let result = state.succeed(in_a_thousand);
        if state.has_stopped {
            return result;
        }
        let Content { data, safe, unsafe_parts } = &mut state.contents[self.content];
        // After an error the operating system takes them for written.
        let parts = std::mem::take(unsafe_parts);
        if result.is_ok() {
            safe.resize(data.len(), 0);
            for part in parts {
                let part = part.start.min(data.len())..part.end.min(data.len());
                safe[part.clone()].copy_from_slice(&data[part]);
            }
        }
        result
    }
}
