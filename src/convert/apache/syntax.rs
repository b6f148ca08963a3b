//! httpd.conf as a tree of directives: a directive a line, sections in angle brackets.

use std::sync::Arc;

use super::super::syntax::{Directive, Place, SyntaxError};

/// Parses the text of a file. Names become lower case, as they ignore case; `<Name args>` is a directive with a block.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Directive>, SyntaxError> {
    let mut open: Vec<(Directive, usize)> = Vec::new();
    let mut top: Vec<Directive> = Vec::new();
    let mut next = 0;
    let mut comments = Vec::new();
    let (mut offset, mut line) = (0, 0);
    let mut lines = text.split_inclusive('\n');
    while let Some(first) = lines.next() {
        let (start, number) = (offset, line + 1);
        let mut whole = first.trim_end().to_owned();
        (offset, line) = (offset + first.len(), line + 1);
        // A backslash at the end continues the line.
        while whole.ends_with('\\') {
            whole.pop();
            let Some(more) = lines.next() else { break };
            (offset, line) = (offset + more.len(), line + 1);
            whole.push(' ');
            whole.push_str(more.trim_end());
        }
        let text = whole.trim();
        if text.is_empty() || text.starts_with('#') {
            if text.is_empty() {
                comments.clear();
            } else {
                comments.push(text.to_owned());
            }
            continue;
        }
        let at = start + (first.len() - first.trim_start().len());
        let fault = |title: String, label: &str| SyntaxError {
            at: at..at + 1,
            title,
            label: label.into(),
            help: Some("write each section as `<Name …>` … `</Name>`".into()),
        };
        if let Some(name) = text.strip_prefix("</") {
            let name = name.trim_end_matches('>').trim().to_lowercase();
            match open.pop() {
                Some((section, _)) if section.name == name => match open.last_mut() {
                    Some((outer, _)) => outer.block.get_or_insert_default().push(section),
                    None => top.push(section),
                },
                _ => return Err(fault(format!("`</{name}>` closes nothing"), "no such section is open")),
            }
            continue;
        }
        let is_section = text.starts_with('<');
        let mut words =
            words(text.trim_start_matches('<').trim_end_matches(if is_section { '>' } else { '\0' }));
        if words.is_empty() {
            return Err(fault("a section without a name".into(), "a name is missing"));
        }
        let place = Place {
            file: Arc::clone(file),
            line: number,
            column: 1 + first.len() - first.trim_start().len(),
        };
        let name = words.remove(0).to_lowercase();
        let block = is_section.then(Vec::new);
        let directive =
            Directive { id: next, name, args: words, block, place, comments: std::mem::take(&mut comments) };
        next += 1;
        match (is_section, open.last_mut()) {
            (true, _) => open.push((directive, at)),
            (false, Some((outer, _))) => outer.block.get_or_insert_default().push(directive),
            (false, None) => top.push(directive),
        }
    }
    match open.pop() {
        Some((section, at)) => Err(SyntaxError {
            at: at..at + 1,
            title: format!("`<{}>` is not closed", section.name),
            label: "opened here".into(),
            help: Some("write its end".into()),
        }),
        None => Ok(top),
    }
}

/// Words of a line; quotes hold several together.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, behind) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_sections_and_quotes() {
        let text = "# why\nProxyPass /  \"http://a b/\" \\\n  retry=0\n<Location \"/x\">\n  Require ip 10.0.0.0/8\n</Location>\n";
        let tree = parse(&"x".into(), text).unwrap();
        assert_eq!(
            (tree[0].name.as_str(), tree[0].args.join("|")),
            ("proxypass", "/|http://a b/|retry=0".into())
        );
        assert_eq!((tree[0].comments.join(""), tree[1].place.line), ("# why".into(), 4));
        assert_eq!(tree[1].children()[0].line(), "require ip 10.0.0.0/8");
    }

    #[test]
    fn sections_are_closed() {
        for text in ["<Location />\n", "</Location>\n", "<A>\n</B>\n", "<>\n"] {
            assert!(parse(&"x".into(), text).is_err(), "{text}");
        }
    }
}
