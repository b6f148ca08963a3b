//! `interactive_tools = "MAP"` with its modifiers.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    action::{Action, ActionScope},
    proxy::{HOLD, READ_TIMEOUT, REQUEST_HEADERS, SEND_TIMEOUT},
};
use crate::config::{
    diagnostic::Problem,
    keys::{
        Defaulted, Group, Is, Key, OneOf, Shape,
        kind::{Integer, Of},
    },
    pattern::PathPattern,
    print::{Pairs, quote},
    read::{Table, Value},
    tool_map::{self, ToolMap},
    upstream::UpstreamSettings,
};

/// Settings of a route for interactive tools.
#[derive(Debug, Clone)]
pub struct InteractiveTools {
    /// Where the running tools are listed.
    pub map: ToolMap,
    /// Most connections to one tool at once, WebSockets included.
    pub max_connections: NonZeroUsize,
    /// Settings of the connections to tools.
    pub upstream: Arc<UpstreamSettings>,
}

/// Keys of the action.
pub const KEYS: Group = &[&INTERACTIVE_TOOLS, &MAX_CONNECTIONS];

/// Keys of `proxy` that have the same meaning for interactive tools.
pub const SHARED: Group = &[&REQUEST_HEADERS, &READ_TIMEOUT, &SEND_TIMEOUT, &HOLD];

static INTERACTIVE_TOOLS: Key<Of<ToolMap>, OneOf> = Key {
    name: "interactive_tools",
    kind: Of { shape: || Shape::Text(tool_map::FORM), read: tool_map::read, show: |map| quote(&map.shown()) },
    default: OneOf,
    about: "Galaxy's interactive tools, in place of gx-it-proxy. The value is Galaxy's `interactivetools_map` (a file that \
            ends in `.json`, else SQLite) or `interactivetoolsproxy_map` (`\"postgresql://…\"`). A request whose host is \
            `KEY-TOKEN.ep.…` goes to that tool, any other to that of its path below the route: `…/KEY/TOKEN/…`.",
    example: "interactive_tools = \"/srv/galaxy/var/interactivetools_map.sqlite\"",
};

static MAX_CONNECTIONS: Defaulted<Integer> = Key {
    name: "max_connections",
    kind: Integer(1, 1_000_000),
    default: Is(|| 256),
    about: "Most connections to one interactive tool at once, WebSockets included. Requests beyond get 503.",
    example: "interactive_tools = \"/srv/galaxy/var/interactivetools_map.sqlite\", max_connections = 64",
};

/// Default of `hold`: a container that has just started listens within seconds, and one that is gone should be said to be
/// so.
const TOOL_HOLD: Duration = Duration::from_secs(5);

/// Default of `read_timeout`: WebSockets of tools are silent for as long as their user thinks.
const TOOL_READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// Reads the action.
pub fn read(table: &mut Table<'_>, value: Value<'_>, scope: &ActionScope<'_>) -> Option<Action> {
    let most = table.read(&MAX_CONNECTIONS);
    if let Some(PathPattern::Exact(_) | PathPattern::Regex(_)) = scope.pattern {
        let problem =
            Problem::new("interactive tools need the prefix of a path", "the tool is what follows it");
        value.error(problem.help("write the key of the route as `\"/\"`, or as `\"/interactivetool/ep\"`"));
    }
    let map = tool_map::read(value)?;
    let max_connections = NonZeroUsize::new(most as usize).unwrap_or(NonZeroUsize::MIN);
    let upstream = scope.upstreams.unlisted(value.context, "interactive_tools");
    let upstream =
        Arc::new(UpstreamSettings { hold: TOOL_HOLD, read_timeout: TOOL_READ_TIMEOUT, ..upstream });
    Some(Action::InteractiveTools(InteractiveTools { map, max_connections, upstream }))
}

/// The keys with their values.
pub fn pairs(tools: &InteractiveTools) -> Pairs {
    let most = u32::try_from(tools.max_connections.get()).unwrap_or(u32::MAX);
    Pairs::default().key(&INTERACTIVE_TOOLS, &tools.map).key(&MAX_CONNECTIONS, &most)
}
