//! Sites of a Galaxy in the words of `[site.galaxy]`.
//!
//! The plain routes of a site are the measure. `[site.galaxy]` is written where its routes, expanded by the code that
//! reads configurations, do the same with every path; routes of their own remain where they do not. Where that takes
//! too many, the plain routes stay.
//!
//! ```text
//! facts     what the routes of a site say about a Galaxy
//! view      routes as bowshock reads them, found by path
//! compare   whether two routes do the same with a path
//! ```

mod compare;
mod facts;
mod view;

use std::collections::BTreeSet;

use super::{
    ledger::Ledger,
    output::{Output, Route, Section, Site},
    sample::samples_of,
    syntax::Place,
    toml::{self, Table},
};

use compare::{Change, Timeouts};
use facts::{Facts, Optional};
use view::View;

/// Fewest routes that `[site.galaxy]` must stand for.
const FEWEST: usize = 2;

/// Most routes of a site that are compared.
const MOST_ROUTES: usize = 1000;

/// Most routes that are written only so that `[site.galaxy]` does not change what happens to a path.
const MOST_KEPT_AS_BEFORE: usize = 2;

/// A site with `[site.galaxy]`.
struct Recognized {
    site: Site,
    /// Keys of routes that `[site.galaxy]` stands for.
    dropped: Vec<String>,
    /// What its routes do differently, without consequence: by the kind of change, the keys.
    changes: BTreeSet<(Change, String)>,
}

/// A path with which `[site.galaxy]` would do something else.
struct Conflict {
    /// Key of its route.
    key: String,
    /// Key of the plain route, if there is one.
    plain: Option<String>,
    /// The difference.
    why: String,
}

/// Writes `[site.galaxy]` for the sites of a Galaxy, and says so.
pub fn recognize(output: &mut Output, ledger: &Ledger) {
    for at in 0..output.sites.len() {
        let Some(facts) = facts::of(&output.sites[at]) else { continue };
        let place = place(&output.sites[at], &facts);
        let text = match recognized(output, &output.sites[at], &facts) {
            Ok(recognized) => {
                let text = told(&facts, &recognized);
                output.sites[at] = recognized.site;
                rename(output, &facts.upstream);
                text
            }
            Err(why) => {
                format!("a Galaxy in {}, written as plain routes: with `[site.galaxy]`, {why}", facts.root)
            }
        };
        if let Some(place) = place {
            ledger.note_at(&place, text);
        }
    }
}

/// Place of the static files in the original, else of the server.
fn place(site: &Site, facts: &Facts) -> Option<Place> {
    let key = format!("{}/static", facts.prefix);
    let of = |wanted: &str| {
        site.places
            .iter()
            .find(|(key, _)| key.trim_start_matches("^~ ") == wanted)
            .map(|(_, place)| place.clone())
    };
    of(&key).or_else(|| of(""))
}

/// The name that a person would give to Galaxy's upstream, in place of one that was made up from a path.
fn rename(output: &mut Output, old: &str) {
    const NAME: &str = "galaxy";
    let header = |name: &str| format!("[upstream.{}]", toml::key(name));
    if output.upstreams.iter().any(|section| section.header == header(NAME)) {
        return;
    }
    let is_old = |section: &&mut Section| section.header == header(old) && section.is_made_up;
    let Some(section) = output.upstreams.iter_mut().find(is_old) else { return };
    section.header = header(NAME);
    let sites = output.sites.iter_mut().flat_map(|site| {
        site.routes.iter_mut().flat_map(|route| &mut route.alternatives).chain([&mut site.galaxy])
    });
    for table in sites.chain(output.sections.iter_mut().map(|section| &mut section.table)) {
        for key in ["proxy", "upstream", "request"] {
            if table.text(key) == Some(old) {
                table.set(key, NAME);
            }
        }
    }
}

/// The site in the words of `[site.galaxy]`, or why that would not be the same.
fn recognized(output: &Output, site: &Site, facts: &Facts) -> Result<Recognized, String> {
    if site.routes.len() > MOST_ROUTES {
        return Err("there would be too many routes to compare".into());
    }
    let read = |site: &Site| {
        View::read(output, site).ok_or_else(|| "the configuration could not be compared".to_owned())
    };
    let plain = read(site)?;
    let mut base = with_common_headers(site);
    if base.table.get("compress").is_none() {
        // The default of a Galaxy is another one.
        base.table.set("compress", false);
    }
    let with = |optional: &[Optional], routes: Vec<Route>| Site {
        galaxy: facts.table(optional),
        routes,
        ..base.clone()
    };
    // Each optional key is written if its route is the one that the site has.
    let mut optional = facts.optional();
    let all = read(&with(&optional, Vec::new()))?;
    optional.retain(|key| is_made(&plain, &all, &facts.key_of(*key), facts));
    let made = read(&with(&optional, Vec::new()))?;
    let is_there =
        |route: &Route| is_made(&plain, &made, &route.key, facts) || is_part(&plain, &made, route, facts);
    let (dropped, kept): (Vec<Route>, Vec<Route>) = base.routes.iter().cloned().partition(is_there);
    let dropped = dropped.into_iter().map(|route| route.key).collect();
    let mut found = Recognized { site: with(&optional, kept), dropped, changes: BTreeSet::new() };
    let conflicts = conflicts(&plain, &read(&found.site)?, facts, &mut found.changes);
    let added = as_before(&conflicts, &base, facts)?;
    if found.dropped.len() < FEWEST.max(added.len() + 1) {
        return Err("there would be no fewer routes".into());
    }
    if !added.is_empty() {
        found.site.routes.extend(added);
        found.changes.clear();
        let again = self::conflicts(&plain, &read(&found.site)?, facts, &mut found.changes);
        if let Some(conflict) = again.first() {
            return Err(conflict.why.clone());
        }
    }
    Ok(found)
}

/// The site with the headers that all of its routes to servers set on requests, in place of the same on each.
fn with_common_headers(site: &Site) -> Site {
    let mut site = site.clone();
    let mut routes: Vec<&mut Table> = site
        .routes
        .iter_mut()
        .flat_map(|route| &mut route.alternatives)
        .filter(|table| table.get("proxy").is_some())
        .collect();
    let first = routes.first().and_then(|table| table.get("request_headers").cloned());
    if let Some(headers) = first
        && routes.iter().all(|table| table.get("request_headers") == Some(&headers))
    {
        routes.iter_mut().for_each(|table| drop(table.remove("request_headers")));
        site.table.set("request_headers", headers);
    }
    site
}

/// Whether `made` has the same route as `plain` under a key.
fn is_made(plain: &View, made: &View, key: &str, facts: &Facts) -> bool {
    // The place of `^~` and of expressions among the others matters, too.
    if key.starts_with(['^', '~']) {
        return false;
    }
    let paths = samples_of(key);
    // Other routes have some of the paths.
    let mut same = paths.iter().filter_map(|path| {
        let (theirs, ours) = (plain.find(path)?, made.find(path)?);
        let is_both = theirs.key == key && ours.key == key;
        is_both.then(|| compare::routes(&theirs, &ours, path, Timeouts::Equal, facts).is_ok())
    });
    same.next().is_some_and(|first| first && same.all(|is_same| is_same))
}

/// Whether a route for files below others is not needed, as the route above has the same files.
fn is_part(plain: &View, made: &View, route: &Route, facts: &Facts) -> bool {
    let [only] = route.alternatives.as_slice() else { return false };
    if !route.key.starts_with('/') || only.get("files").is_none() {
        return false;
    }
    samples_of(&route.key).iter().all(|path| match (plain.find(path), made.find(path)) {
        (Some(theirs), Some(ours)) => {
            theirs.key == route.key
                && ours.is_files()
                && compare::routes(&theirs, &ours, path, Timeouts::Equal, facts).is_ok()
        }
        _ => false,
    })
}

/// Paths with which `ours` does something else than `plain`, the first for each route. Changes without consequence are
/// added to `changes`.
fn conflicts(
    plain: &View,
    ours: &View,
    facts: &Facts,
    changes: &mut BTreeSet<(Change, String)>,
) -> Vec<Conflict> {
    let mut conflicts: Vec<Conflict> = Vec::new();
    for path in view::samples(plain, ours, &facts.prefix) {
        let (old, new) = (plain.find(&path), ours.find(&path));
        let key = new.as_ref().or(old.as_ref()).map(|route| route.key.to_owned()).unwrap_or_default();
        let why = match (&old, &new) {
            (None, None) => continue,
            (None, Some(new)) if new.is_missing() => continue,
            (None, Some(_)) => format!("`{path}` would be served, which nginx does not serve"),
            (Some(_), None) => format!("`{path}` would not be served"),
            (Some(old), Some(_)) if view::is_unsearched(old.key, &key) => {
                format!("expressions would be searched for `{path}`")
            }
            (Some(old), Some(new)) => {
                let timeouts = if old.key == key { Timeouts::Equal } else { Timeouts::AtLeast };
                match compare::routes(old, new, &path, timeouts, facts) {
                    Ok(found) => {
                        changes.extend(found.into_iter().map(|change| (change, key.clone())));
                        continue;
                    }
                    Err(what) => format!("`{path}` would be served otherwise ({what} of `{}`)", old.key),
                }
            }
        };
        if conflicts.iter().all(|known| known.key != key) {
            conflicts.push(Conflict { key, plain: old.map(|route| route.key.to_owned()), why });
        }
    }
    // Those with a path that tells more come first.
    conflicts.sort_by_key(|conflict| conflict.key.starts_with('~'));
    conflicts
}

/// Routes that keep what happens to paths as it was, if few are enough.
fn as_before(conflicts: &[Conflict], site: &Site, facts: &Facts) -> Result<Vec<Route>, String> {
    let mut routes: Vec<Route> = Vec::new();
    for conflict in conflicts {
        let plugins = format!("{}/plugins", facts.prefix);
        let is_plugins = conflict.key.starts_with(&format!("~ ^{}/", regex::escape(&plugins)));
        let key = match () {
            () if is_plugins => plugins,
            () if conflict.key.starts_with("= ") => conflict.key.clone(),
            () => return Err(conflict.why.clone()),
        };
        let alternatives = match &conflict.plain {
            None => vec![Table::of("answer", 404)],
            Some(plain) => {
                let route = site.routes.iter().find(|route| route.key == *plain);
                let tables = route.map(|route| route.alternatives.clone()).unwrap_or_default();
                if tables.is_empty() || !tables.iter().all(is_movable) {
                    return Err(conflict.why.clone());
                }
                tables
            }
        };
        let comment = match &conflict.plain {
            None => "# nginx has nothing here.",
            Some(_) if is_plugins => "# Galaxy sends files of plugins itself.",
            Some(_) => "# As it was in nginx.",
        };
        if routes.iter().all(|route| route.key != key) {
            routes.push(Route { comments: vec![comment.into()], key, alternatives });
        }
    }
    match routes.len() {
        0..=MOST_KEPT_AS_BEFORE => Ok(routes),
        _ => Err(conflicts.first().map(|conflict| conflict.why.clone()).unwrap_or_default()),
    }
}

/// Whether a table means the same under another key.
fn is_movable(table: &Table) -> bool {
    let is_fixed = |key: &str| table.text(key).is_none_or(|text| !text.contains('{'));
    table.get("files").is_none() && table.get("try").is_none() && is_fixed("path") && is_fixed("redirect")
}

/// What was recognized, for the report.
fn told(facts: &Facts, found: &Recognized) -> String {
    let quoted = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
        keys.join(", ")
    };
    let dropped: Vec<&str> = found.dropped.iter().map(String::as_str).collect();
    let mut text = format!(
        "a Galaxy in {}: `[site.galaxy]` stands for {}, and `bowshock print` shows its routes",
        facts.root,
        quoted(&dropped)
    );
    let of = |change: Change| found.changes.iter().filter(move |(known, _)| *known == change);
    let files: Vec<&str> = of(Change::FromDisk).map(|(_, key)| key.trim_start_matches(['=', ' '])).collect();
    if !files.is_empty() {
        let from = format!("{}/static", facts.root);
        text.push_str(&format!(". Sent from {from}, as Galaxy would send it: {}", quoted(&files)));
    }
    if of(Change::Longer).next().is_some() {
        text.push_str(". Event streams, archives, uploads and files of remote jobs have longer timeouts");
    }
    if of(Change::Larger).next().is_some() {
        text.push_str(". Uploads in pieces and files of remote jobs may have any size");
    }
    let has_downloads = |route: &Route| {
        route.key.ends_with("/_x_accel_redirect")
            && route.alternatives.iter().any(|one| one.text("files") == Some("/"))
    };
    if found.site.routes.iter().any(has_downloads) {
        let data = "`data = [\"/srv/galaxy/var\", \"/data\"]`";
        text.push_str(&format!(". {data} with your directories makes the route for downloads, too"));
    }
    text
}
