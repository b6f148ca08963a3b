//! Directives of Apache whose fate does not depend on where they stand.

use crate::convert::{ledger::Ledger, syntax::Directive};

const PROCESS: &str = "the service manager starts the process: see bowshock.service";
const LOGS: &str = "`access` of [log] is the access log, standard error the process log";
const TLS: &str = "TLS 1.2 and 1.3 with modern ciphers";
const ALWAYS: &str = "always so";

const UNNECESSARY: &[(&str, &str)] = &[
    ("loadmodule", "there are no modules to load"),
    ("serverroot", PROCESS),
    ("user", "`User=` of the systemd unit"),
    ("group", "`Group=` of the systemd unit"),
    ("pidfile", PROCESS),
    ("mutex", PROCESS),
    ("startservers", PROCESS),
    ("maxrequestworkers", "`max_connections` of [server]"),
    ("serveradmin", "error pages name nobody"),
    ("serversignature", "no version is sent"),
    ("servertokens", "no version is sent"),
    ("usecanonicalname", "redirects keep the client's host"),
    ("hostnamelookups", "addresses are not resolved"),
    ("errorlog", LOGS),
    ("customlog", LOGS),
    ("transferlog", LOGS),
    ("logformat", LOGS),
    ("loglevel", LOGS),
    ("rewriteengine", "routes are always on"),
    ("rewritelog", LOGS),
    ("rewriteloglevel", LOGS),
    ("proxyrequests", "there is no forward proxy"),
    ("proxypreservehost", "Host passes as the client sent it"),
    ("proxyvia", "Via is not sent"),
    ("proxypassreverse", "`path` is mapped back in Location"),
    ("proxypassreversecookiepath", "`path` is mapped back in the paths of cookies"),
    ("proxyset", "servers are chosen by their requests in progress"),
    ("proxytimeout", "the default of `read_timeout` is 3m"),
    ("proxyiobuffersize", "the head of a response may have 64k"),
    ("allowencodedslashes", "paths are passed on as sent"),
    ("setenv", "bodies are passed on as they come"),
    ("setenvif", "bodies are passed on as they come"),
    ("keepalive", ALWAYS),
    ("keepalivetimeout", "`keepalive_timeout` of [server]"),
    ("maxkeepaliverequests", ALWAYS),
    ("timeout", "the timeouts of [server] and of upstreams"),
    ("requestreadtimeout", "`client_header_timeout` and `min_rate` of [server]"),
    ("sslengine", "a site with `tls` has it"),
    ("sslprotocol", TLS),
    ("sslciphersuite", TLS),
    ("sslhonorcipherorder", TLS),
    ("sslcompression", TLS),
    ("sslsessiontickets", TLS),
    ("sslsessioncache", TLS),
    ("sslusestapling", TLS),
    ("sslstaplingcache", TLS),
    ("sslcertificatechainfile", "the chain belongs into the file of `cert`"),
    ("protocols", "HTTP/2 is offered with TLS"),
    ("expiresactive", "`expires` is on where it stands"),
    ("documentroot", "files are served by routes only"),
    ("directoryindex", "`index` of a route with files"),
    ("options", "`listing` and `symlinks` of a route with files"),
    ("allowoverride", "files in directories change nothing"),
    ("order", "`allow` and `deny`"),
    ("require", "everybody is admitted unless `allow` says otherwise"),
    ("deflatecompressionlevel", "`level` of `compress`"),
    ("browsermatch", "no browser of today needs it"),
    ("typesconfig", "media types of file name endings are built in"),
    ("addtype", "media types of file name endings are built in"),
    ("mimemagicfile", "media types of file name endings are built in"),
];

/// Sections that only say whether a module is there.
const TRANSPARENT: [&str; 4] = ["ifmodule", "ifdefine", "ifversion", "proxy"];

/// Marks what nothing has marked.
pub fn finish(tree: &[Directive], ledger: &Ledger) {
    for directive in tree {
        if ledger.outcome(directive).is_none() {
            let name = directive.name.as_str();
            match UNNECESSARY.iter().find(|(known, _)| *known == name) {
                Some((_, why))
                    if name != "require" || matches!(directive.args.join(" ").as_str(), "all granted") =>
                {
                    ledger.unnecessary(directive, *why);
                }
                _ if TRANSPARENT.contains(&name) => {
                    ledger.unnecessary(directive, "a section without a meaning of its own");
                }
                _ => ledger.reported(
                    directive,
                    "only the directives of Galaxy's documentation are converted",
                    "see whether the site needs it, and what the reference has for it",
                ),
            }
        }
        finish(directive.children(), ledger);
    }
}
