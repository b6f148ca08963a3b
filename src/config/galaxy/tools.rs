//! Interactive tools: where Galaxy keeps the map of them, and at which addresses it expects them.

use std::path::{Path, PathBuf};

use super::file::{self, Yaml};
use crate::config::{
    diagnostic::Problem,
    read::Value,
    tool_map::{self, ToolMap},
    upstream::UpstreamTable,
};

/// Interactive tools of a site.
pub struct Tools {
    /// Who knows where they run.
    pub by: ToolsBy,
    /// Label in the host names of tools.
    pub prefix: String,
    /// Path below which tools without a host name are.
    pub path: String,
    /// Host of Galaxy, for a site without a name.
    pub host: Option<String>,
}

/// Who knows where tools run.
pub enum ToolsBy {
    /// A gx-it-proxy: the name of its upstream.
    Upstream(String),
    /// This proxy, by Galaxy's map.
    Map(ToolMap),
}

/// Galaxy's settings of interactive tools.
pub struct ToolSettings {
    /// `interactivetools_prefix`
    pub prefix: String,
    /// `interactivetools_base_path`, the prefix and the name of entry points.
    pub path: String,
    /// `interactivetoolsproxy_map` or `interactivetools_map`, if tools are enabled.
    pub map: Option<ToolMap>,
}

/// Reads the settings. `root` and `data` are Galaxy's directories; `is_there` looks for one.
pub fn settings(
    section: Option<Yaml<'_>>,
    (root, data): (&Path, &Path),
    is_there: impl Fn(&Path) -> bool,
) -> ToolSettings {
    let get = |key: &str| section.and_then(|section| section.get(key));
    let text = |key: &str| get(key).and_then(Yaml::text);
    let prefix = text("interactivetools_prefix").unwrap_or("interactivetool").to_owned();
    let parts = [text("interactivetools_base_path").unwrap_or_default(), &prefix, "ep"];
    let path = parts.iter().map(|part| part.trim_matches('/')).filter(|part| !part.is_empty());
    let path = path.fold(String::new(), |path, part| path + "/" + part);
    let enabled = get("interactivetools_enable").filter(|value| value.flag() == Some(true));
    let map = enabled.and_then(|enabled| {
        let (value, map) = match (get("interactivetoolsproxy_map"), get("interactivetools_map")) {
            (Some(url), _) => (url, database(url, root)),
            (None, Some(file)) => (file, sqlite(file.path(root)?)),
            (None, None) => (enabled, sqlite(data.join("interactivetools_map.sqlite"))),
        };
        let map = map.map_err(|problem| value.warn(not_served(problem))).ok()?;
        if let ToolMap::Sqlite(path) = &map
            && !path.parent().is_some_and(&is_there)
        {
            value.warn(not_served(Problem::new("", format!("there is no {} yet", path.display()))));
            return None;
        }
        Some(map)
    });
    ToolSettings { prefix, path, map }
}

fn not_served(reason: Problem) -> Problem {
    let help = reason.help.unwrap_or_else(|| "start Galaxy once, or correct the path".into());
    Problem::new("interactive tools are enabled, and not served", reason.label).help(help)
}

fn sqlite(path: PathBuf) -> Result<ToolMap, Problem> {
    Ok(ToolMap::Sqlite(path))
}

/// Reads the URL of a database; a file may be relative to Galaxy's root.
fn database(url: Yaml<'_>, root: &Path) -> Result<ToolMap, Problem> {
    let text = url.text().unwrap_or_default();
    match text.strip_prefix("sqlite:///").filter(|path| !path.is_empty()) {
        Some(path) => Ok(ToolMap::Sqlite(file::resolved(root, path))),
        None => tool_map::parse(text),
    }
}

/// Reads `interactive_tools`: a map, or the upstream of a gx-it-proxy.
pub fn by_hand(value: Value<'_>, upstreams: &UpstreamTable) -> Option<ToolsBy> {
    let text = value.string()?;
    if tool_map::is_map(text) {
        let map = tool_map::read(value)?;
        let is_there =
            |file: &Path| file.parent().is_some_and(|parent| value.context.system.directory(parent).is_ok());
        // What is not there is noted, and its routes would say the same again.
        return match &map {
            ToolMap::Sqlite(file) | ToolMap::Json(file) if !is_there(file) => None,
            _ => Some(ToolsBy::Map(map)),
        };
    }
    value.parse(text, |name| upstreams.named(name)).map(ToolsBy::Upstream)
}

/// A map as a route names it.
pub fn written(map: &ToolMap) -> String {
    match map {
        // Not shown without its password.
        ToolMap::Postgres(url) => url.clone(),
        file => file.shown(),
    }
}
