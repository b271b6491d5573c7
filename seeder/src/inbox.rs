//! The inbox: media files that are put into a folder are packaged into the root, one after the other.
//!
//! A file is taken once it has rested, and stays where it is. What became of it is kept in the folder, so that a restart neither
//! packages nor hashes again what has not changed, nor tries again what no trying will mend.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use crate::{
    atomic,
    config::{INBOX_INTERVAL, INBOX_RETRY},
    package::{PackageError, PackageEvent, package, slug_for},
};

/// What became of the files; hidden, so never taken for one.
const RECORD: &str = ".marea-inbox.json";

/// Progress is logged at each such part of a rendition.
const LOGGED_PART: f64 = 0.25;

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// Waits for its turn.
    Queued,
    /// ffmpeg is at work.
    Working,
    /// All renditions are there.
    Done,
    /// It cannot be packaged as it is.
    Failed,
}

/// One file, for people and programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) state: Stage,
    /// Name of the video.
    pub(crate) slug: String,
    /// It can be played, perhaps with fewer renditions than it will have.
    pub(crate) published: bool,
    /// Part of each rendition that is made, 0 to 1.
    pub(crate) renditions: BTreeMap<String, f64>,
    /// Why it failed, or has to wait.
    pub(crate) error: Option<String>,
}

/// By what a changed file is told, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    /// Of the last change: seconds since 1970, and nanoseconds.
    modified: (i64, i64),
}

#[derive(Clone, Debug)]
struct Job {
    stamp: Stamp,
    progress: Progress,
    /// Not before.
    after: Option<SystemTime>,
}

/// A job that came to its end.
#[derive(Serialize, Deserialize)]
struct Ended {
    #[serde(flatten)]
    stamp: Stamp,
    #[serde(flatten)]
    progress: Progress,
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    version: u32,
    files: BTreeMap<String, Ended>,
}

#[derive(Default)]
struct Jobs {
    /// By file name.
    files: BTreeMap<String, Job>,
    /// As the folder was at the last look.
    seen: BTreeMap<String, Stamp>,
    over: bool,
}

pub(crate) struct Inbox {
    folder: PathBuf,
    root: PathBuf,
    jobs: Mutex<Jobs>,
    changed: Condvar,
    /// Told when there is something new to serve.
    published: Box<dyn Fn() + Send + Sync>,
}

impl Inbox {
    /// Begins to look after `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub(crate) fn start(
        folder: &Path,
        root: &Path,
        published: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        fs::create_dir_all(folder)?;
        let record: Record = match fs::read(folder.join(RECORD)) {
            // One that is damaged costs a look at each file.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(error),
        };
        let job = |Ended { stamp, progress }| Job { stamp, progress, after: None };
        let files = record.files.into_iter().map(|(name, ended)| (name, job(ended))).collect();
        let inbox = Arc::new(Self {
            folder: folder.to_owned(),
            root: root.to_owned(),
            jobs: Mutex::new(Jobs { files, ..Jobs::default() }),
            changed: Condvar::new(),
            published: Box::new(published),
        });
        for part in [Self::watch as fn(&Self), Self::work] {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new().name("inbox".into()).spawn(move || part(&inbox))?;
        }
        Ok(inbox)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All files, those included that were packaged earlier.
    pub(crate) fn all(&self) -> Vec<Progress> {
        self.lock().files.values().map(|job| job.progress.clone()).collect()
    }

    /// The file that is, or will be, the video `slug`.
    pub(crate) fn of(&self, slug: &str) -> Option<Progress> {
        self.lock().files.values().map(|job| &job.progress).find(|progress| progress.slug == slug).cloned()
    }

    /// Looks at the folder now: a file was put there whole.
    pub(crate) fn take(&self, name: &str) -> io::Result<()> {
        let stamp = stamp(&fs::metadata(self.folder.join(name))?);
        self.lock().seen.insert(name.to_owned(), stamp);
        self.look();
        Ok(())
    }

    /// Forgets the file that became the video `slug`, and deletes it.
    pub(crate) fn remove(&self, slug: &str) -> io::Result<()> {
        let mut jobs = self.lock();
        let name = jobs.files.iter().find(|(_, job)| job.progress.slug == slug).map(|(name, _)| name.clone());
        let Some(name) = name else { return Ok(()) };
        match fs::remove_file(self.folder.join(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        jobs.files.remove(&name);
        self.keep(&jobs);
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        loop {
            self.look();
            let jobs = self.lock();
            let over = |jobs: &mut Jobs| !jobs.over;
            let waited = self.changed.wait_timeout_while(jobs, INBOX_INTERVAL, over);
            if waited.unwrap_or_else(PoisonError::into_inner).0.over {
                return;
            }
        }
    }

    /// Queues what is new and has not changed since the last look.
    fn look(&self) {
        let found = match files(&self.folder) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, folder = %self.folder.display(), "the inbox cannot be read");
                return;
            }
        };
        let mut jobs = self.lock();
        let before = jobs.files.len();
        jobs.files.retain(|name, job| found.contains_key(name) || job.progress.state == Stage::Working);
        let mut changed = jobs.files.len() != before;
        for (name, stamp) in &found {
            let rested = jobs.seen.get(name) == Some(stamp);
            let known = jobs.files.get(name);
            if !rested || known.is_some_and(|job| job.stamp == *stamp || job.progress.state == Stage::Working) {
                continue;
            }
            let progress = Progress {
                state: Stage::Queued,
                slug: slug_for(&self.root, name),
                published: false,
                renditions: BTreeMap::new(),
                error: None,
            };
            jobs.files.insert(name.clone(), Job { stamp: *stamp, progress, after: None });
            changed = true;
        }
        jobs.seen = found;
        if changed {
            self.changed.notify_all();
        }
    }

    fn work(&self) {
        loop {
            let Some(name) = self.next() else { return };
            self.package(&name);
        }
    }

    /// The next file whose turn it is; none at the end.
    fn next(&self) -> Option<String> {
        let mut jobs = self.lock();
        loop {
            if jobs.over {
                return None;
            }
            let now = SystemTime::now();
            let due = |job: &Job| job.progress.state == Stage::Queued && job.after.is_none_or(|after| after <= now);
            if let Some((name, job)) = jobs.files.iter_mut().find(|(_, job)| due(job)) {
                job.progress.state = Stage::Working;
                return Some(name.clone());
            }
            jobs = self.changed.wait_timeout(jobs, INBOX_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn package(&self, name: &str) {
        let report = |event: &PackageEvent| {
            let logged = self.note(name, event);
            if logged {
                tracing::info!("{event}");
            }
            if matches!(event, PackageEvent::Published { .. }) {
                (self.published)();
            }
        };
        let result = package(&self.folder.join(name), &self.root, None, None, &report);
        let mut jobs = self.lock();
        let Some(job) = jobs.files.get_mut(name) else { return };
        match result {
            Ok(_) => {
                job.progress.state = Stage::Done;
                job.progress.published = true;
                job.progress.error = None;
                job.progress.renditions.values_mut().for_each(|part| *part = 1.0);
            }
            // Of the file itself: no trying will mend it.
            Err(error @ PackageError::Source { .. }) => {
                tracing::warn!("{error}");
                job.progress.state = Stage::Failed;
                job.progress.error = Some(error.to_string());
            }
            // Of this machine, which somebody may mend.
            Err(error) => {
                tracing::warn!("{error}: tried again in {} s", INBOX_RETRY.as_secs());
                job.progress.state = Stage::Queued;
                job.progress.error = Some(error.to_string());
                job.after = Some(SystemTime::now() + INBOX_RETRY);
            }
        }
        self.keep(&jobs);
    }

    /// Takes over what an event says; whether it is worth a line in the log.
    fn note(&self, name: &str, event: &PackageEvent) -> bool {
        let mut jobs = self.lock();
        let Some(job) = jobs.files.get_mut(name) else { return true };
        match event {
            PackageEvent::Begun { slug, renditions, .. } => {
                job.progress.slug.clone_from(slug);
                job.progress.error = None;
                job.progress.renditions = renditions.iter().map(|rendition| (rendition.clone(), 0.0)).collect();
            }
            PackageEvent::Progress { rendition, part, .. } => {
                let before = job.progress.renditions.insert(rendition.clone(), *part).unwrap_or(0.0);
                return (part / LOGGED_PART).floor() > (before / LOGGED_PART).floor();
            }
            PackageEvent::Published { .. } => job.progress.published = true,
            PackageEvent::Unchanged { slug, .. } => job.progress.slug.clone_from(slug),
        }
        true
    }

    /// Writes down what has ended.
    fn keep(&self, jobs: &Jobs) {
        let ended = |job: &&Job| matches!(job.progress.state, Stage::Done | Stage::Failed);
        let files = jobs
            .files
            .iter()
            .filter(|(_, job)| ended(job))
            .map(|(name, job)| (name.clone(), Ended { stamp: job.stamp, progress: job.progress.clone() }));
        let record = Record { version: 1, files: files.collect() };
        let path = self.folder.join(RECORD);
        let written = serde_json::to_vec_pretty(&record)
            .map_err(io::Error::other)
            .and_then(|bytes| atomic::replace(&path, &bytes, &path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "after a restart all files of the inbox are looked at again");
        }
    }
}

/// The files that may be media: neither hidden nor links nor folders.
fn files(folder: &Path) -> io::Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
            && !name.starts_with('.')
        {
            found.insert(name, stamp(&metadata));
        }
    }
    Ok(found)
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Stamp { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
}
