//! YAML as a tree with the places of its values, bounded in memory and time whatever the file says.
//!
//! An alias is a reference to the node of its anchor, so a file that nests aliases takes no more memory than it has
//! bytes. The number of values with every alias written out is bounded as well, because readers walk all of them.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};

use crate::config::diagnostic::{Problem, Span};

/// Most values of a file, aliases written out.
const MOST_VALUES: usize = 100_000;

/// Deepest nesting of lists and maps.
const DEEPEST: usize = 64;

/// A parsed file.
#[derive(Debug, Default)]
pub struct Tree {
    nodes: Vec<Node>,
    /// The value of the file; `None` when it is empty.
    pub root: Option<NodeId>,
}

/// Place of a node in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

/// A value with its place.
#[derive(Debug)]
pub struct Node {
    /// Place in the file.
    pub span: Span,
    /// The value.
    pub content: Content,
    /// Number of values in it, itself included, aliases written out.
    size: usize,
}

/// A value.
#[derive(Debug)]
pub enum Content {
    /// Text, number, boolean or null; `plain` is without quotes.
    Scalar {
        /// The text, escapes resolved.
        text: String,
        /// Whether it stands without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A sequence.
    List(Vec<NodeId>),
    /// A mapping, in the order of the file.
    Map(Vec<(NodeId, NodeId)>),
}

impl Tree {
    /// Parses the first document of a file.
    ///
    /// # Errors
    ///
    /// Place and problem of the first error: after it, the rest of the file would be guesses.
    pub fn parse(text: &str) -> Result<Self, (Span, Problem)> {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| syntax_error(text, &error))?;
            let span = bytes(text, span.start.byte_offset(), span.end.byte_offset());
            if builder.event(event, span)? == Step::Done {
                break;
            }
        }
        Ok(builder.tree)
    }

    /// The node at a place.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }
}

#[derive(PartialEq)]
enum Step {
    More,
    Done,
}

#[derive(Default)]
struct Builder {
    tree: Tree,
    /// Finished nodes by the number of their anchor.
    anchors: HashMap<usize, NodeId>,
    open: Vec<Open>,
}

/// A list or map whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    is_map: bool,
    children: Vec<NodeId>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<Step, (Span, Problem)> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.add(Node { span, content, size: 1 }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => self.open(span, anchor, false)?,
            Event::MappingStart(_, anchor, _) => self.open(span, anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => self.close(&span)?,
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => self.put(*node),
                None => {
                    return Err((span, Problem::new("an alias within its own anchor", "refers to itself")));
                }
            },
            Event::DocumentEnd => return Ok(Step::Done),
            _ => {}
        }
        Ok(Step::More)
    }

    fn open(&mut self, span: Span, anchor: usize, is_map: bool) -> Result<(), (Span, Problem)> {
        if self.open.len() == DEEPEST {
            let problem = Problem::new("lists and maps are nested too deeply", "too deep");
            return Err((span, problem.help(format!("at most {DEEPEST} levels are read"))));
        }
        self.open.push(Open { start: span.start, anchor, is_map, children: Vec::new() });
        Ok(())
    }

    fn close(&mut self, end: &Span) -> Result<(), (Span, Problem)> {
        let Some(Open { start, anchor, is_map, children }) = self.open.pop() else { return Ok(()) };
        let inner =
            children.iter().fold(1, |sum: usize, child| sum.saturating_add(self.tree.node(*child).size));
        let content = match is_map {
            true => Content::Map(children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()),
            false => Content::List(children),
        };
        self.add(Node { span: start..end.end.max(start), content, size: inner }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), (Span, Problem)> {
        if node.size > MOST_VALUES || self.tree.nodes.len() == MOST_VALUES {
            let problem = Problem::new("the file has too many values", "too many up to here");
            return Err((
                node.span,
                problem.help(format!("at most {MOST_VALUES} values are read, with every alias written out")),
            ));
        }
        let id = NodeId(self.tree.nodes.len());
        self.tree.nodes.push(node);
        // 0 is no anchor.
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        self.put(id);
        Ok(())
    }

    /// Puts a finished node into the list or map around it.
    fn put(&mut self, id: NodeId) {
        match self.open.last_mut() {
            Some(outer) => outer.children.push(id),
            None => self.tree.root = Some(id),
        }
    }
}

fn syntax_error(text: &str, error: &ScanError) -> (Span, Problem) {
    let at = error.marker().byte_offset();
    let problem = Problem::new(format!("this is not YAML: {}", error.info()), "here");
    (bytes(text, at, at), problem)
}

/// The bytes between two offsets; the end of the text where the parser does not know.
fn bytes(text: &str, start: Option<usize>, end: Option<usize>) -> Span {
    let start = start.unwrap_or(text.len()).min(text.len());
    start..end.unwrap_or(start).clamp(start, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a node and its place.
    fn shown(text: &str) -> String {
        fn show(tree: &Tree, id: NodeId) -> String {
            match &tree.node(id).content {
                Content::Scalar { text, plain: true } => text.clone(),
                Content::Scalar { text, plain: false } => format!("{text:?}"),
                Content::List(items) => {
                    format!("[{}]", items.iter().map(|item| show(tree, *item)).collect::<Vec<_>>().join(" "))
                }
                Content::Map(pairs) => {
                    let pair = |(key, value): &(NodeId, NodeId)| {
                        format!("{}={}", show(tree, *key), show(tree, *value))
                    };
                    format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(" "))
                }
            }
        }
        let tree = Tree::parse(text).unwrap();
        tree.root.map(|root| show(&tree, root)).unwrap_or_default()
    }

    #[test]
    fn values_keep_their_form() {
        for (text, form) in [
            ("", ""),
            ("# nothing\n", ""),
            ("a: 1\nb: '1'\n", "{a=1 b=\"1\"}"),
            ("a:\n  - x\n  - {y: z}\n", "{a=[x {y=z}]}"),
            ("a: &n [1]\nb: *n\n", "{a=[1] b=[1]}"),
            ("a: |\n  two\n  lines\n", "{a=\"two\\nlines\\n\"}"),
            ("a: 1\n---\nb: 2\n", "{a=1}"),
        ] {
            assert_eq!(shown(text), form, "{text}");
        }
    }

    #[test]
    fn places_are_bytes_of_the_file() {
        let text = "é: \"ü\"\ngravity:\n  bind: localhost\n";
        let tree = Tree::parse(text).unwrap();
        let places: Vec<&str> = tree
            .nodes
            .iter()
            .filter(|node| matches!(node.content, Content::Scalar { .. }))
            .map(|node| &text[node.span.clone()])
            .collect();
        assert_eq!(places, ["é", "\"ü\"", "gravity", "bind", "localhost"]);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..40 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{before}"); 9].join(", "));
        }
        let (_, problem) = Tree::parse(&text).unwrap_err();
        assert!(problem.title.contains("too many values"), "{problem:?}");
    }

    #[test]
    fn depth_is_bounded() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(10_000)] {
            assert!(Tree::parse(&text).is_err());
        }
        assert!(Tree::parse(&format!("{}x{}", "[".repeat(60), "]".repeat(60))).is_ok());
    }

    #[test]
    fn an_alias_may_not_refer_to_itself() {
        assert!(Tree::parse("a: &a [*a]\n").is_err());
        assert!(Tree::parse("a: *unknown\n").is_err());
    }

    #[test]
    fn errors_are_where_they_are() {
        let text = "gravity:\n  gunicorn:\n  bind: [\n";
        let (span, problem) = Tree::parse(text).unwrap_err();
        assert!(span.start > 20 && problem.title.starts_with("this is not YAML"), "{span:?} {problem:?}");
    }
}
