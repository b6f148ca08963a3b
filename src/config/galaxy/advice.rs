//! Warnings of what galaxy.yml lacks for a Galaxy behind a proxy, each with the line to add.

use super::{application::Application, file::Yaml};
use crate::config::{
    diagnostic::{Place, Problem, Severity},
    read::Context,
};

/// Base of X-Accel-Redirect in Galaxy's documentation.
pub const ACCEL: &str = "/_x_accel_redirect";

/// Warns of a Galaxy that runs under uWSGI.
pub fn of_uwsgi(root: Option<Yaml<'_>>) {
    if let Some((uwsgi, _)) = root.and_then(|root| root.get_pair("uwsgi")) {
        uwsgi.warn(Problem::new("sockets of uWSGI are not read", "gravity's defaults are used in its place").help(
            "Galaxy has run under gunicorn since 22.05: replace `uwsgi:` by `gravity:`, or add where uWSGI listens:\n\
             [upstream.galaxy]\nservers = [\"127.0.0.1:4001\"]\nprotocol = \"uwsgi\"",
        ));
    }
}

/// Warns of settings that a Galaxy behind a proxy should have.
pub fn of_what_is_missing(
    context: &Context<'_>,
    place: &Place,
    galaxy: Option<Yaml<'_>>,
    application: &Application,
) {
    let warn = |problem: Problem| context.note_at(Severity::Warning, place, problem);
    let get = |key: &str| galaxy.and_then(|section| section.get_pair(key)).map(|(key, _)| key);
    if get("nginx_x_accel_redirect_base").is_none() && !application.sendfile {
        let problem =
            Problem::new("Galaxy sends downloads itself", "a download occupies a worker to its end");
        warn(problem.help(format!("add to `galaxy:`\nnginx_x_accel_redirect_base: {ACCEL}")));
    }
    if application.archives.is_none() {
        let problem = Problem::new("Galaxy packs archives itself", "an archive occupies a worker to its end");
        warn(problem.help("add to `galaxy:`\nupstream_mod_zip: true"));
    }
    for key in ["nginx_upload_store", "nginx_upload_job_files_store"] {
        if let Some(key_there) = get(key) {
            let problem =
                Problem::new(format!("`{key}` is not available in this version"), "uploads would fail");
            key_there.warn(problem.help("remove it: resumable uploads replace nginx's upload module"));
        }
    }
    for key in BY_HOST {
        if let Some(key_there) = get(key) {
            let problem = Problem::new(format!("`{key}` is not read"), "the same files for all hosts");
            key_there.warn(problem.help("give these hosts a `[[site]]` each, with a route for their files"));
        }
    }
}

/// Directories of static files by host.
const BY_HOST: [&str; 6] = [
    "static_dir_by_host",
    "static_images_dir_by_host",
    "static_scripts_dir_by_host",
    "static_favicon_dir_by_host",
    "static_robots_txt_by_host",
    "static_welcome_html_by_host",
];
