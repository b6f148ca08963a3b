//! Files of the web client and of plugins: those that exist.

use std::path::{Path, PathBuf};

use super::{Written, application::Statics, line};
use crate::config::{diagnostic::Problem, read::Context};

/// Directories of plugins.
#[derive(Default)]
pub struct Plugins {
    /// `config/plugins` of Galaxy.
    pub all: Option<PathBuf>,
    /// Directories of visualizations alone.
    pub visualizations: Vec<PathBuf>,
}

/// Directories of plugins that exist.
pub fn plugins(context: &Context<'_>, root: Option<&Path>, visualizations: Vec<PathBuf>) -> Plugins {
    let is_there = |path: &PathBuf| context.system.directory(path).is_ok();
    let all = root.map(|root| root.join("config/plugins")).filter(is_there);
    let is_elsewhere = |path: &PathBuf| all.as_ref().is_none_or(|all| !path.starts_with(all));
    let visualizations =
        visualizations.into_iter().filter(|path| is_elsewhere(path) && is_there(path)).collect();
    Plugins { all, visualizations }
}

/// Files of the web client that exist. Galaxy serves the others itself.
pub fn existing(written: &Written<'_>, statics: Statics) -> Statics {
    let context = written.value.context;
    let is_there = |path: &PathBuf| context.system.exists(path).is_ok();
    let Some(directory) = statics.directory.filter(is_there) else {
        if written.root_is_wrong {
            return Statics::default();
        }
        let problem = Problem::new(
            "Galaxy serves its static files itself",
            "their directory is not known or not there",
        );
        context.warn(
            written.value.span(),
            problem.help(format!(
                "write where they are: {}, with `static` in it",
                line("root", "/srv/galaxy/server")
            )),
        );
        return Statics::default();
    };
    let own = |name: &str| Some(directory.join(name)).filter(is_there);
    // An installed package of the client has them, which Galaxy knows.
    let has_dist = statics.elsewhere.iter().any(|(at, _)| *at == "/static/dist") || own("dist").is_some();
    Statics {
        favicon: statics.favicon.filter(is_there).or_else(|| own("favicon.ico")),
        robots: statics.robots.filter(is_there).or_else(|| own("robots.txt")),
        // A Galaxy that was not given a page has that of its samples only.
        welcome: statics.welcome.filter(is_there).or_else(|| match own("welcome.html") {
            Some(_) => None,
            None => own("welcome.sample.html").or_else(|| own("welcome.html.sample")),
        }),
        elsewhere: statics
            .elsewhere
            .into_iter()
            .filter(|(at, path)| is_there(path) && directory.join(at.trim_start_matches("/static/")) != *path)
            .collect(),
        has_dist,
        directory: Some(directory),
    }
}
