//! Directories of files that Galaxy sends: those that can be used.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{Written, shown, stores::Sent};
use crate::config::{
    diagnostic::{Place, Problem, Severity},
    paths,
    read::Context,
};

/// Most directories of files that Galaxy sends.
const MOST_DIRECTORIES: usize = 500;

/// Directories that exist. What is missing is noted where it is named.
pub fn usable(context: &Context<'_>, mut all: Sent) -> Vec<PathBuf> {
    if let Some((place, _)) = all.get(MOST_DIRECTORIES) {
        let problem =
            Problem::new(format!("more than {MOST_DIRECTORIES} directories of datasets"), "one too many");
        context.note_at(Severity::Error, place, problem.help("name the directories above them"));
        all.truncate(MOST_DIRECTORIES);
    }
    let is_usable = |(place, path): (Place, PathBuf)| {
        if path == Path::new("/") {
            let problem = Problem::new(
                "`/` is no directory of datasets",
                "Galaxy could send every file of this machine",
            );
            context.note_at(
                Severity::Error,
                &place,
                problem.help("write the directories that datasets are in"),
            );
            return None;
        }
        let Err(error) = context.system.directory(&path) else { return Some(path) };
        let mut problem = paths::unusable_problem(&path, &error);
        problem.title = format!("files of {} cannot be sent: {}", shown(&path), problem.title);
        problem.help = problem.help.map(|help| format!("{help}, and reload"));
        context.note_at(Severity::Warning, &place, problem);
        None
    };
    let mut found: Vec<PathBuf> = all.into_iter().filter_map(is_usable).collect();
    // One within another stays, as it may be a symlink that leads elsewhere.
    let mut seen = HashSet::new();
    found.retain(|path| seen.insert(path.clone()));
    found
}

/// First segments of Galaxy's own paths, below which no internal route may be.
const PAGES: [&str; 26] = [
    "admin",
    "api",
    "authnz",
    "collection",
    "dataset",
    "datasets",
    "display_application",
    "ga4gh",
    "histories",
    "history",
    "jobs",
    "libraries",
    "login",
    "pages",
    "plugins",
    "published",
    "root",
    "static",
    "storage",
    "tool_runner",
    "tools",
    "tours",
    "u",
    "user",
    "visualizations",
    "workflows",
];

/// Directories that members of archives may come from: those whose path is not that of a page of Galaxy, as a route for their
/// members would hide it.
pub fn archived(written: &Written<'_>, prefix: &str, mut datasets: Vec<PathBuf>) -> Vec<PathBuf> {
    let hides = |directory: &PathBuf| {
        let path = directory.to_string_lossy();
        let below = path.strip_prefix(prefix).unwrap_or_default().trim_start_matches('/');
        PAGES.contains(&below.split('/').next().unwrap_or_default())
    };
    for directory in datasets.iter().filter(|directory| hides(directory)) {
        let problem = Problem::new(
            format!("archives of files in {} cannot be sent", shown(directory)),
            "pages of Galaxy have the same path",
        );
        let help =
            "set `upstream_mod_zip: false` in galaxy.yml, or let Galaxy use another path to that directory";
        written.value.context.warn(written.value.span(), problem.help(help));
    }
    datasets.retain(|directory| !hides(directory));
    datasets
}
