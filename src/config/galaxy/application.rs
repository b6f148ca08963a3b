//! The `galaxy:` section: Galaxy's directories, prefix and downloads, with its own defaults.

use std::path::{Path, PathBuf};

use super::{
    file::{self, Yaml},
    prefix,
    stores::{Sent, Stores},
    tools::{self, ToolSettings},
};
use crate::config::{
    address,
    diagnostic::{Place, Problem, show},
    read::Context,
};

/// Settings of the application.
pub struct Application {
    /// Path below which Galaxy is served; empty at the root of the site.
    pub prefix: String,
    /// Files of the web client.
    pub statics: Statics,
    /// Directories of visualization plugins beside the default one.
    pub visualizations: Vec<PathBuf>,
    /// Base of X-Accel-Redirect, without a trailing slash.
    pub accel: Option<String>,
    /// Whether Galaxy names files in X-Sendfile.
    pub sendfile: bool,
    /// Whether Galaxy lists the members of archives for the proxy; `None` when it does not say.
    pub archives: Option<bool>,
    /// Directories of datasets.
    pub datasets: Sent,
    /// Directories of other files that Galaxy sends.
    pub other: Sent,
    /// Interactive tools.
    pub tools: ToolSettings,
    /// Host of Galaxy's own URL.
    pub host: Option<String>,
    /// Origins that Galaxy allows (`allowed_origin_hostnames`), as `cors` has them; empty if it allows all.
    pub origins: Vec<String>,
}

/// Directories and files of the web client.
#[derive(Default)]
pub struct Statics {
    /// `static_dir`
    pub directory: Option<PathBuf>,
    /// `static_favicon_dir`
    pub favicon: Option<PathBuf>,
    /// `static_robots_txt`
    pub robots: Option<PathBuf>,
    /// `static_welcome_html`
    pub welcome: Option<PathBuf>,
    /// Directories that are not those of `static_dir`, by path: `/static/style`.
    pub elsewhere: Vec<(&'static str, PathBuf)>,
    /// Whether the built client is in one of these directories.
    pub has_dist: bool,
}

/// Surroundings of the section.
pub struct Base<'a> {
    /// The file and its errors.
    pub context: &'a Context<'a>,
    /// Place of the section, or of the file when it has none.
    pub place: Place,
    /// Directory of the file with the section.
    pub directory: &'a Path,
    /// Galaxy's root.
    pub root: Option<&'a Path>,
}

impl Base<'_> {
    fn is_there(&self, path: &Path) -> bool {
        self.context.system.exists(path).is_ok()
    }
}

/// Reads the section; `None` is Galaxy with its defaults.
pub fn read(section: Option<Yaml<'_>>, base: &Base<'_>) -> Application {
    let get = |key: &str| section.and_then(|section| section.get(key));
    let flag = |key: &str| get(key).and_then(Yaml::flag);
    let text = |key: &str| get(key).and_then(Yaml::text);
    let own_prefix = get("galaxy_url_prefix")
        .and_then(|value| prefix(value.text()?).map_err(|problem| value.error(problem)).ok());
    let directories = Directories::new(section, base);
    Application {
        prefix: own_prefix.unwrap_or_default(),
        statics: statics(section, base.root),
        visualizations: visualizations(section, base.root),
        accel: get("nginx_x_accel_redirect_base").and_then(accel),
        sendfile: flag("apache_xsendfile").unwrap_or_default(),
        archives: flag("upstream_mod_zip"),
        datasets: directories.datasets(),
        other: directories.other(),
        tools: tools::settings(section, (directories.root, &directories.data), |path| base.is_there(path)),
        host: text("interactivetools_proxy_host").or(text("galaxy_infrastructure_url")).and_then(host),
        origins: get("allowed_origin_hostnames").map(origins).unwrap_or_default(),
    }
}

fn accel(value: Yaml<'_>) -> Option<String> {
    let text = value.text()?.trim_end_matches('/');
    if !text.starts_with('/') || text == "/" {
        let problem = Problem::new("`nginx_x_accel_redirect_base` must be a path", "must start with `/`");
        value.error(problem.help("write for example `nginx_x_accel_redirect_base: /_x_accel_redirect`"));
        return None;
    }
    Some(text.to_owned())
}

/// Directories below the prefix that may be elsewhere than in `static_dir`: by key, with their path on the site.
const ELSEWHERE: [(&str, &str); 5] = [
    ("static_dist_dir", "/static/dist"),
    ("static_scripts_dir", "/static/scripts"),
    ("static_style_dir", "/static/style"),
    ("static_images_dir", "/images"),
    ("static_local_dir", "/static_local"),
];

fn statics(section: Option<Yaml<'_>>, root: Option<&Path>) -> Statics {
    let given = |key: &str| section.and_then(|section| section.get(key));
    let path = |key: &str| {
        let value = given(key).filter(|value| root.is_some() || is_absolute(*value))?;
        value.path(root.unwrap_or(Path::new("/")))
    };
    Statics {
        directory: path("static_dir").or_else(|| root.map(|root| root.join("static"))),
        favicon: path("static_favicon_dir"),
        robots: path("static_robots_txt"),
        welcome: path("static_welcome_html"),
        has_dist: false,
        elsewhere: ELSEWHERE.into_iter().filter_map(|(key, at)| Some((at, path(key)?))).collect(),
    }
}

fn is_absolute(value: Yaml<'_>) -> bool {
    value.text().is_some_and(|text| text.starts_with('/'))
}

fn visualizations(section: Option<Yaml<'_>>, root: Option<&Path>) -> Vec<PathBuf> {
    let Some(value) = section.and_then(|section| section.get("visualization_plugins_directory")) else {
        return Vec::new();
    };
    let directories =
        value.text().unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty());
    directories
        .filter(|one| root.is_some() || one.starts_with('/'))
        .map(|one| file::resolved(root.unwrap_or(Path::new("/")), one))
        .collect()
}

/// Galaxy's directories, by which it resolves paths.
struct Directories<'a> {
    base: &'a Base<'a>,
    section: Option<Yaml<'a>>,
    /// Root, or the directory of galaxy.yml where it is not known.
    root: &'a Path,
    config: PathBuf,
    data: PathBuf,
    cache: PathBuf,
}

impl<'a> Directories<'a> {
    fn new(section: Option<Yaml<'a>>, base: &'a Base<'a>) -> Self {
        let root = base.root.unwrap_or(base.directory);
        let given = |key: &str, base: &Path| section.and_then(|section| section.get(key))?.path(base);
        let is_source = base.is_there(&root.join("lib/galaxy"));
        let config = given("config_dir", root).unwrap_or_else(|| base.directory.to_owned());
        let data = given("data_dir", root);
        let data =
            data.unwrap_or_else(|| if is_source { root.join("database") } else { config.join("data") });
        let cache = given("cache_dir", &data).unwrap_or_else(|| data.join("cache"));
        Self { base, section, root, config, data, cache }
    }

    fn get(&self, key: &str) -> Option<Yaml<'a>> {
        self.section.and_then(|section| section.get(key))
    }

    /// The path that a key names, relative to `parent`. Where that is not there, Galaxy also looks where it was in older
    /// versions: below its root.
    fn given(&self, key: &str, parent: &Path) -> Option<(Place, PathBuf)> {
        let value = self.get(key)?;
        let path = value.path(parent)?;
        let older = value.path(self.root)?;
        let is_older = !self.base.is_there(&path) && self.base.is_there(&older);
        Some((value.place(), if is_older { older } else { path }))
    }

    /// Directories of datasets: of object stores and their caches, else `file_path`.
    fn datasets(&self) -> Sent {
        let files = match self.get("file_path") {
            Some(_) => self.given("file_path", &self.data),
            // Up to 20.01 the default was `files`, and an old Galaxy still has its datasets there.
            None => {
                let [objects, files] = ["objects", "files"].map(|name| self.data.join(name));
                let is_old = !self.base.is_there(&objects) && self.base.is_there(&files);
                Some((self.base.place.clone(), if is_old { files } else { objects }))
            }
        };
        let Some(files) = files else { return Sent::new() };
        let mut sent = self.stores(&files.1);
        if sent.is_empty() {
            sent.push(files);
        }
        sent
    }

    /// Directories of other files that Galaxy sends: objects of remote stores, results that are kept for a short time, files of
    /// tools and of remote jobs, which fetch them by the API.
    fn other(&self) -> Sent {
        let mut sent = Sent::new();
        for (key, parent, default) in [
            ("object_store_cache_path", self.root, self.data.join("object_store_cache")),
            ("new_file_path", &self.data, self.data.join("tmp")),
            // Below `cache_dir`, and made only when it is first needed.
            ("short_term_storage_dir", &self.cache, self.cache.clone()),
            ("job_working_directory", &self.data, self.data.join("jobs_directory")),
            ("tool_path", self.root, self.root.join("tools")),
            ("tool_data_path", self.root, self.root.join("tool-data")),
            ("shed_tools_dir", self.root, self.data.join("shed_tools")),
        ] {
            // Galaxy makes some of the default ones when it needs them.
            let default =
                Some((self.base.place.clone(), default)).filter(|(_, path)| self.base.is_there(path));
            sent.extend(self.given(key, parent).or(default));
        }
        sent
    }

    /// Directories of object stores: of a file if it is there, else those in galaxy.yml.
    fn stores(&self, files: &Path) -> Sent {
        let stores = Stores { base: self.root, files };
        let default = Some((self.base.place.clone(), self.config.join("object_store_conf.xml")));
        let file = match self.given("object_store_config_file", &self.config) {
            Some(file) => Some(file),
            None => default.filter(|(_, path)| self.base.is_there(path)),
        };
        let inline = self.get("object_store_config");
        let mut sent = Sent::new();
        match (file, inline) {
            (Some((place, path)), None) => sent = stores.file(self.base.context, &place, &path),
            (Some((place, path)), Some(_)) if self.base.is_there(&path) => {
                sent = stores.file(self.base.context, &place, &path);
            }
            (_, Some(inline)) => stores.yaml(inline, &mut sent),
            (None, None) => {}
        }
        sent
    }
}

fn host(url: &str) -> Option<String> {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', ':']).next()?;
    address::is_name(host).then(|| host.to_ascii_lowercase())
}

/// Reads host names with commas between them, or expressions between slashes that their start must match.
fn origins(value: Yaml<'_>) -> Vec<String> {
    let hosts = value.text().unwrap_or_default().split(',').map(str::trim).filter(|host| !host.is_empty());
    let hosts: Vec<&str> = hosts.collect();
    // Every page may read what is public then, and none may send cookies.
    if hosts.contains(&"*") {
        return Vec::new();
    }
    let origin = |host: &str| {
        let inner = host.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let inner = match inner {
            Some(regex) => regex.trim_start_matches('^').trim_end_matches('$').to_owned(),
            None => regex::escape(host),
        };
        let origin = format!("^https?://(?:{inner})(?::[0-9]+)?$");
        if let Err(error) = regex::Regex::new(&origin) {
            let reason = error.to_string();
            let problem =
                Problem::new(format!("{} is left out for logins", show(host)), "not an expression here");
            value.warn(problem.help(reason.lines().last().unwrap_or_default()));
            return None;
        }
        Some(format!("~ {origin}"))
    };
    hosts.into_iter().filter_map(origin).collect()
}

/// Settings of a Galaxy whose galaxy.yml is not known.
pub fn by_hand(base: &Base<'_>) -> Application {
    Application { datasets: Sent::new(), other: Sent::new(), ..read(None, base) }
}
