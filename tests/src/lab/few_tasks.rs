//! A limit of tasks, as service managers and containers set it: who is in it gets no more processes and threads.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Lab, until};

const ROOT: &str = "/sys/fs/cgroup";

/// A control group; it is removed on Drop, when nobody is in it any more.
pub struct FewTasks {
    folder: PathBuf,
}

impl FewTasks {
    pub fn new(lab: &Lab) -> Result<Self> {
        let unified = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
        let has_pids = unified.split_whitespace().any(|controller| controller == "pids");
        let parent = Path::new(ROOT).join(if has_pids { "" } else { "pids" });
        let folder = parent.join(format!("naru-lab-{}", lab.id));
        fs::create_dir(&folder).with_context(|| format!("make the control group {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// With all its threads.
    pub fn take_in(&self, process: u32) -> Result<()> {
        self.write("cgroup.procs", process)
    }

    pub fn allow(&self, tasks: usize) -> Result<()> {
        self.write("pids.max", tasks)
    }

    /// Not one more than there are.
    pub fn allow_no_more(&self) -> Result<()> {
        let tasks = fs::read_to_string(self.folder.join("pids.current"))?;
        self.allow(tasks.trim().parse()?)
    }

    /// What goes before a command that is to run within.
    pub fn words_before(&self) -> [String; 3] {
        let procs = self.folder.join("cgroup.procs");
        let enter = format!("echo $$ > {} && exec \"$@\"", procs.display());
        ["-c".to_owned(), enter, "sh".to_owned()]
    }

    fn write(&self, file: &str, value: impl ToString) -> Result<()> {
        let file = self.folder.join(file);
        fs::write(&file, value.to_string()).with_context(|| format!("write {}", file.display()))
    }
}

impl Drop for FewTasks {
    fn drop(&mut self) {
        let removed = until(Duration::from_secs(5), || Ok(fs::remove_dir(&self.folder)?));
        removed.expect("nobody stays in a control group of the lab");
    }
}
