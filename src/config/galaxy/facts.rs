//! What `[site.galaxy]` and the files that it names say together.

use std::path::{Path, PathBuf};

use super::{
    Welcome, Written, advice,
    application::{self, Application, Base, Statics},
    directories,
    file::{Yaml, YamlFile, place_of},
    gravity::{self, Gravity},
    shown,
    statics::{self, Plugins},
    tools::{self, Tools, ToolsBy},
};
use crate::config::{
    diagnostic::{Problem, Severity},
    read::{Context, Value},
    upstream::{ServerAddress, UpstreamServer, UpstreamTable, servers},
};

/// A Galaxy site, checked.
pub struct Galaxy {
    /// Upstream of Galaxy.
    pub upstream: String,
    /// Path below which it is served; empty at the root of the site.
    pub prefix: String,
    /// Files of the web client that exist.
    pub statics: Statics,
    /// Directories of plugins that exist: those with `visualizations` in it, and those of visualizations.
    pub plugins: Plugins,
    /// The page in the middle of the start page.
    pub welcome: Option<Welcome>,
    /// Base of X-Accel-Redirect.
    pub accel: Option<String>,
    /// Directories of `data` that members of archives come from; Galaxy lists them by path.
    pub archived: Vec<PathBuf>,
    /// Directories of files that Galaxy sends.
    pub data: Vec<PathBuf>,
    /// Upstream of resumable uploads, with the path of its uploads, unless it is Galaxy itself.
    pub uploads: Option<Uploads>,
    /// Upstream of results of remote jobs, with the path of their uploads, unless it is Galaxy itself.
    pub job_uploads: Option<Uploads>,
    /// Path and upstream of the reports application.
    pub reports: Option<(String, String)>,
    /// Interactive tools.
    pub tools: Option<Tools>,
    /// Origins whose pages may begin a login, as `cors` has them.
    pub origins: Vec<String>,
}

/// A tusd.
pub struct Uploads {
    /// Name of the upstream.
    pub upstream: String,
    /// Path of its uploads.
    pub base: String,
}

/// Reads the files that the table names, and checks what comes of both.
pub fn read(written: &Written<'_>, upstreams: &UpstreamTable) -> Option<Galaxy> {
    let context = written.value.context;
    let whole = place_of(written.value);
    let Some((config_place, config_path)) = &written.config else {
        let base = Base { context, place: whole, directory: Path::new("/"), root: written.root.as_deref() };
        let application = Application { accel: Some(advice::ACCEL.into()), ..application::by_hand(&base) };
        return together(written, Gravity::default(), application, written.root.as_deref(), upstreams);
    };
    let file = YamlFile::read(context, config_place, config_path)?;
    let root_value = file.root();
    if let Some(value) = root_value.filter(|value| !value.is_map()) {
        value.error(
            Problem::new(
                format!("{} is not a configuration of Galaxy", shown(config_path)),
                "no `key: value`",
            )
            .help("it has the sections `gravity:` and `galaxy:`"),
        );
        return None;
    }
    let instance = written.instance.as_ref().map(|(place, name)| (name.as_str(), place.clone()));
    let has_gravity = root_value.is_some_and(|root| root.get("gravity").is_some());
    let section = root_value.and_then(|root| gravity::select(root, instance));
    if has_gravity && section.is_none() {
        return None;
    }
    let named = section.and_then(|section| section.get("galaxy_config_file"));
    let own = root_value.and_then(|root| root.get_pair("galaxy"));
    let other = match (own, named) {
        (None, Some(named)) => Some(YamlFile::read(context, &named.place(), &named.path(file.directory())?)?),
        _ => None,
    };
    let other_section = other.as_ref().and_then(YamlFile::root).and_then(|root| root.get_pair("galaxy"));
    let galaxy = own.or(other_section);
    let place = galaxy.map_or_else(|| config_place.clone(), |(name, _)| name.place());
    let galaxy = galaxy.map(|(_, section)| section);
    let directory = other.as_ref().map_or(file.directory(), YamlFile::directory);
    let root = written.root.clone().or_else(|| root(context, section, galaxy, directory));
    let base = Base { context, place, directory, root: root.as_deref() };
    let application = application::read(galaxy, &base);
    advice::of_what_is_missing(context, &base.place, galaxy, &application);
    let binds = written.upstream.is_none() && !upstreams.has("galaxy");
    if binds && !has_gravity {
        advice::of_uwsgi(root_value);
    }
    let gravity = gravity::read(section, root.as_deref(), binds);
    together(written, gravity, application, root.as_deref(), upstreams)
}

/// Galaxy's root: as gravity or Galaxy is told, else the directory above that of galaxy.yml if a Galaxy is there.
fn root(
    context: &Context<'_>,
    gravity: Option<Yaml<'_>>,
    galaxy: Option<Yaml<'_>>,
    directory: &Path,
) -> Option<PathBuf> {
    let above = || {
        let above = directory.parent()?;
        context.system.exists(&above.join("lib/galaxy")).is_ok().then(|| above.to_owned())
    };
    let told = |section: Option<Yaml<'_>>, key| {
        let root = section?.get(key)?;
        root.path(root.directory())
    };
    told(gravity, "galaxy_root").or_else(|| told(galaxy, "root")).or_else(above)
}

fn together(
    written: &Written<'_>,
    gravity: Gravity,
    application: Application,
    root: Option<&Path>,
    upstreams: &UpstreamTable,
) -> Option<Galaxy> {
    let context = written.value.context;
    let upstream = upstream(written, gravity.galaxy, upstreams)?;
    let prefix = written.prefix.clone().unwrap_or(application.prefix);
    let make =
        |name: &str, server: ServerAddress| upstreams.make(context, name, vec![UpstreamServer::at(server)]);
    let tusd = |name: &str, tusd: Option<gravity::Tusd>| {
        tusd.map(|tusd| Uploads { upstream: make(name, tusd.server), base: tusd.base })
    };
    let uploads = match written.uploads {
        None => tusd("tusd", gravity.uploads),
        Some(value) => uploads(value, &upstream, upstreams),
    };
    let job_uploads = tusd("tusd_jobs", gravity.job_uploads);
    let tools_by = match (written.interactive_tools, gravity.tools) {
        (Some(value), _) => tools::by_hand(value, upstreams),
        (None, Some(server)) => Some(ToolsBy::Upstream(make("interactive_tools", server))),
        (None, None) => application.tools.map.map(ToolsBy::Map),
    };
    let reports = match (written.reports, gravity.reports) {
        (Some(value), _) => named(value, upstreams).map(|name| (format!("{prefix}/reports"), name)),
        (None, Some(gravity::Reports { server, prefix: Some(prefix) })) => {
            Some((prefix, make("reports", server)))
        }
        (None, _) => None,
    };
    let Application { accel, sendfile, archives, mut datasets, mut other, .. } = application;
    datasets.extend(written.data.iter().cloned());
    let datasets = directories::usable(context, datasets);
    other.retain(|(_, path)| !datasets.contains(path));
    let data = [datasets.as_slice(), &directories::usable(context, other)].concat();
    let archives = archives.unwrap_or(written.config.is_none());
    let archived = if archives { directories::archived(written, &prefix, datasets) } else { Vec::new() };
    let accel = accel.or_else(|| sendfile.then(|| advice::ACCEL.into())).filter(|_| !data.is_empty());
    Some(Galaxy {
        upstream,
        prefix,
        plugins: statics::plugins(context, root, application.visualizations),
        welcome: written.welcome.clone(),
        statics: statics::existing(written, application.statics),
        accel,
        archived,
        data,
        uploads,
        job_uploads,
        reports,
        tools: tools_by.map(|by| Tools {
            by,
            prefix: application.tools.prefix,
            path: application.tools.path,
            host: application.host,
        }),
        origins: application.origins,
    })
}

/// The upstream of Galaxy: by name, by a list of servers, or by the binds of gravity.
fn upstream(written: &Written<'_>, binds: Vec<ServerAddress>, upstreams: &UpstreamTable) -> Option<String> {
    let context = written.value.context;
    let servers = match written.upstream {
        Some(value) if value.as_str().is_some() => return named(value, upstreams),
        Some(value) if upstreams.has("galaxy") => {
            let problem = Problem::new("Galaxy's servers are listed twice", "and in `[upstream.galaxy]`");
            value.error(problem.help("remove this list, or the other one"));
            return upstreams.named("galaxy").ok();
        }
        Some(value) => servers(value, None)?,
        None => binds.into_iter().map(UpstreamServer::at).collect(),
    };
    if servers.is_empty() && written.upstream.is_none() && !upstreams.has("galaxy") {
        let place =
            written.config.as_ref().map_or_else(|| place_of(written.value), |(place, _)| place.clone());
        let problem =
            Problem::new("no gunicorn of Galaxy is known", "gravity runs none whose address is known");
        context.note_at(
            Severity::Error,
            &place,
            problem.help(format!("write where Galaxy listens: `{}`", super::UPSTREAM.example)),
        );
        return None;
    }
    Some(upstreams.make(context, "galaxy", servers))
}

fn named(value: Value<'_>, upstreams: &UpstreamTable) -> Option<String> {
    value.parse(value.string()?, |name| upstreams.named(name))
}

/// Reads `uploads`; Galaxy itself needs no other upstream.
fn uploads(value: Value<'_>, galaxy: &str, upstreams: &UpstreamTable) -> Option<Uploads> {
    let text = value.string()?;
    if text == "tus" {
        let problem = Problem::new(
            "`uploads = \"tus\"` is not available in this version",
            "planned, not implemented yet",
        );
        value.error(
            problem.help("remove it, so that Galaxy receives uploads, or write the upstream of a tusd"),
        );
        return None;
    }
    let name = named(value, upstreams)?;
    (name != galaxy).then(|| Uploads { upstream: name, base: "/files".into() })
}
