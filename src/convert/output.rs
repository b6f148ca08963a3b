//! The result: tables of a bowshock configuration, and their text.

use super::{
    syntax::Place,
    toml::{self, Table, Value},
};

/// A table of the file.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Comment lines above it.
    pub comments: Vec<String>,
    /// The header, such as `[server]`.
    pub header: String,
    /// Keys of the table.
    pub table: Table,
    /// Whether the name in the header was made up from a path, as the original has none.
    pub is_made_up: bool,
}

/// A `[[site]]` with its routes.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// Comment lines above it.
    pub comments: Vec<String>,
    /// Host names; none for the default site.
    pub hosts: Vec<String>,
    /// Settings.
    pub table: Table,
    /// Keys of `[site.galaxy]`; empty for a site that is not one.
    pub galaxy: Table,
    /// Routes in order.
    pub routes: Vec<Route>,
    /// Places of the originals of routes by key; that of the site itself under the empty key.
    pub places: Vec<(String, Place)>,
}

/// A route: an entry of `[site.routes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Comment lines above it.
    pub comments: Vec<String>,
    /// The key.
    pub key: String,
    /// Alternatives in order; the last one has no `when`, unless all have.
    pub alternatives: Vec<Table>,
}

/// A whole configuration.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// Comment lines at the beginning.
    pub comments: Vec<String>,
    /// `[server]`, `[admin]`, `[log]`, `[[listen]]`, `[limit.NAME]`, `[auth.NAME]`, `[cache.NAME]`.
    pub sections: Vec<Section>,
    /// Sites.
    pub sites: Vec<Site>,
    /// `[upstream.NAME]`.
    pub upstreams: Vec<Section>,
}

impl Output {
    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text: String = self.comments.iter().map(|line| format!("{line}\n")).collect();
        self.sections.iter().for_each(|section| write(&mut text, section));
        self.sites.iter().for_each(|site| site.write(&mut text));
        self.upstreams.iter().for_each(|section| write(&mut text, section));
        text
    }
}

fn write(text: &mut String, section: &Section) {
    separate(text);
    section.comments.iter().for_each(|line| text.push_str(&format!("{line}\n")));
    text.push_str(&format!("{}\n{}", section.header, section.table.lines()));
}

/// An empty line between tables.
fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push('\n');
    }
}

impl Site {
    fn write(&self, text: &mut String) {
        let mut table = Table::default();
        let hosts = self.hosts.iter().map(|host| host.as_str().into()).collect::<Vec<Value>>();
        if !hosts.is_empty() {
            table.set("host", Value::one_or_more(hosts));
        }
        table.0.extend(self.table.0.clone());
        let is_long = |value: &Value| matches!(value, Value::Table(_)) && value.inline().len() > toml::WIDTH;
        let (long, short): (Vec<_>, Vec<_>) = table.0.into_iter().partition(|(_, value)| is_long(value));
        let header = "[[site]]".to_owned();
        let comments = self.comments.clone();
        write(text, &Section { comments, header, table: Table(short), ..Section::default() });
        for (key, value) in long {
            if let Value::Table(table) = value {
                let header = format!("[site.{key}]");
                write(text, &Section { header, table, ..Section::default() });
            }
        }
        if !self.galaxy.is_empty() {
            let (header, table) = ("[site.galaxy]".to_owned(), self.galaxy.clone());
            write(text, &Section { header, table, ..Section::default() });
        }
        if !self.routes.is_empty() || self.galaxy.is_empty() {
            self.write_routes(text);
        }
    }

    fn write_routes(&self, text: &mut String) {
        text.push_str("\n[site.routes]\n");
        let key = |route: &Route| toml::key(&route.key).chars().count();
        // Long keys of expressions would push everything else to the right.
        let width = self.routes.iter().filter(|route| route.is_short()).map(key).max().unwrap_or_default();
        let mut had_comments = false;
        for (number, route) in self.routes.iter().enumerate() {
            if number > 0 && (had_comments || !route.comments.is_empty()) {
                text.push('\n');
            }
            had_comments = !route.comments.is_empty();
            route.comments.iter().for_each(|line| text.push_str(&format!("{line}\n")));
            text.push_str(&route.line(width));
        }
    }
}

impl Route {
    /// Whether its key is aligned with those of other routes.
    fn is_short(&self) -> bool {
        !self.key.starts_with('~') && self.key.len() < 40
    }

    fn line(&self, width: usize) -> String {
        let key = toml::key(&self.key);
        let width = if self.is_short() { width } else { 0 };
        match self.alternatives.as_slice() {
            [only] => format!("{key:width$} = {}\n", Value::from(only.clone()).inline()),
            many => {
                let lines: String = many
                    .iter()
                    .map(|table| format!("    {},\n", Value::from(table.clone()).inline()))
                    .collect();
                format!("{key:width$} = [\n{lines}]\n")
            }
        }
    }
}
