//! nginx.conf as a tree of directives, with their places and comments.
//!
//! The grammar is nginx's own: words separated by spaces, `;` or a block in braces at the end, quotes only at the
//! beginning of a word, comments from `#` to the end of the line.

use std::sync::Arc;

/// Deepest nesting of blocks; nginx has no use for more than six.
const DEEPEST: usize = 32;

/// A directive, with its block if it has one.
#[derive(Debug, Clone)]
pub struct Directive {
    /// Identity within one conversion, for the [ledger](super::ledger::Ledger).
    pub id: usize,
    /// Name, the first word.
    pub name: String,
    /// Words behind the name, without quotes.
    pub args: Vec<String>,
    /// Directives of the block.
    pub block: Option<Vec<Directive>>,
    /// Place of the name.
    pub place: Place,
    /// Comment lines directly above, or behind on the same line.
    pub comments: Vec<String>,
}

/// Place in a file; lines and columns begin with 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Name of the file.
    pub file: Arc<str>,
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

/// Fault in the syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Bytes of the file at fault.
    pub at: std::ops::Range<usize>,
    /// Summary in one line.
    pub title: String,
    /// Text beside the caret.
    pub label: String,
    /// Suggestion.
    pub help: Option<String>,
}

impl Directive {
    /// The first word behind the name, or an empty one.
    pub fn first(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// The directives of the block, none if it has no block.
    pub fn children(&self) -> &[Directive] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The directive on one line as written, without its block.
    pub fn line(&self) -> String {
        let words: Vec<String> =
            std::iter::once(&self.name).chain(&self.args).map(|word| quoted(word)).collect();
        words.join(" ")
    }
}

/// Parses the text of a file; directives are numbered from `next`.
pub fn parse(file: &Arc<str>, text: &str, next: &mut usize) -> Result<Vec<Directive>, SyntaxError> {
    let mut parser = Parser { file, text, at: 0, line: 1, line_start: 0, next };
    let directives = parser.directives(0, None)?;
    Ok(directives)
}

/// A word as it must be written to be read again as the same word.
pub fn quoted(word: &str) -> String {
    let is_plain = |letter: char| !letter.is_whitespace() && !";{}\"'\\#".contains(letter);
    let is_variable = word.contains("${");
    if !word.is_empty() && !is_variable && word.chars().all(is_plain) {
        return word.into();
    }
    // nginx drops a backslash before a quote or another backslash only.
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

struct Parser<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    at: usize,
    line: usize,
    line_start: usize,
    next: &'a mut usize,
}

/// A lexical element.
enum Token {
    Word(String),
    Semicolon,
    Open,
    Close,
    End,
}

impl Parser<'_> {
    /// Directives up to the end of a block, or of the file. `open` is the place of the brace that opened the block.
    fn directives(&mut self, depth: usize, open: Option<usize>) -> Result<Vec<Directive>, SyntaxError> {
        let mut directives: Vec<Directive> = Vec::new();
        loop {
            let comments = self.skip(directives.last_mut());
            let (start, place) = (self.at, self.place());
            let name = match self.token()? {
                Token::Word(name) => name,
                Token::Close if open.is_some() => return Ok(directives),
                Token::End => match open {
                    Some(brace) => {
                        return Err(error(brace..brace + 1, "a block is not closed", "opened here")
                            .help("write `}` at its end"));
                    }
                    None => return Ok(directives),
                },
                Token::Close => {
                    return Err(
                        error(start..self.at, "`}` closes nothing", "no block is open").help("remove it")
                    );
                }
                Token::Semicolon => {
                    return Err(error(start..self.at, "`;` ends nothing", "no directive").help("remove it"));
                }
                Token::Open => return Err(error(start..self.at, "a block without a name", "no directive")),
            };
            let id = *self.next;
            *self.next += 1;
            let mut directive = Directive { id, name, args: Vec::new(), block: None, place, comments };
            self.rest(&mut directive, start, depth)?;
            directives.push(directive);
        }
    }

    /// Reads the words and the block of a directive.
    fn rest(&mut self, directive: &mut Directive, start: usize, depth: usize) -> Result<(), SyntaxError> {
        loop {
            self.skip(None);
            let at = self.at;
            match self.token()? {
                Token::Word(word) => directive.args.push(word),
                Token::Semicolon => return Ok(()),
                Token::Open if depth >= DEEPEST => {
                    return Err(error(at..self.at, "blocks are nested too deeply", "one too many"));
                }
                Token::Open => {
                    directive.block = Some(self.directives(depth + 1, Some(at))?);
                    return Ok(());
                }
                Token::Close | Token::End => {
                    let end = start + directive.name.len();
                    let title = format!("the directive `{}` has no end", directive.name);
                    return Err(
                        error(start..end, &title, "begins here").help("write `;` behind its last word")
                    );
                }
            }
        }
    }

    /// Skips white space and comments. A comment on the line of `before` belongs to that; comments above are returned,
    /// unless an empty line is below them.
    fn skip(&mut self, mut before: Option<&mut Directive>) -> Vec<String> {
        let mut comments = Vec::new();
        let mut is_same_line = true;
        let mut is_empty_line = false;
        while let Some(letter) = self.text[self.at..].chars().next() {
            match letter {
                '\n' => {
                    if is_empty_line {
                        comments.clear();
                    }
                    is_same_line = false;
                    is_empty_line = true;
                    self.at += 1;
                    self.line += 1;
                    self.line_start = self.at;
                }
                '#' => {
                    let end = self.text[self.at..].find('\n').map_or(self.text.len(), |end| self.at + end);
                    let comment = self.text[self.at..end].trim_end().to_owned();
                    self.at = end;
                    is_empty_line = false;
                    match before.as_deref_mut() {
                        Some(before) if is_same_line => before.comments.push(comment),
                        _ => comments.push(comment),
                    }
                }
                _ if letter.is_whitespace() => self.at += letter.len_utf8(),
                _ => break,
            }
        }
        comments
    }

    fn place(&self) -> Place {
        let column = 1 + self.text[self.line_start..self.at].chars().count();
        Place { file: Arc::clone(self.file), line: self.line, column }
    }

    fn token(&mut self) -> Result<Token, SyntaxError> {
        let Some(letter) = self.text[self.at..].chars().next() else { return Ok(Token::End) };
        let single = match letter {
            ';' => Some(Token::Semicolon),
            '{' => Some(Token::Open),
            '}' => Some(Token::Close),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return Ok(token);
        }
        match letter {
            '"' | '\'' => self.quoted(letter),
            _ => Ok(Token::Word(self.bare())),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Token, SyntaxError> {
        let start = self.at;
        let mut is_escaped = false;
        for (offset, letter) in self.text[start + 1..].char_indices() {
            let at = start + 1 + offset;
            if letter == '\n' {
                self.line += 1;
                self.line_start = at + 1;
            }
            if is_escaped {
                is_escaped = false;
            } else if letter == '\\' {
                is_escaped = true;
            } else if letter == quote {
                self.at = at + 1;
                let next = self.text[self.at..].chars().next();
                if next.is_some_and(|next| !next.is_whitespace() && !";{)".contains(next)) {
                    let title = format!("unexpected `{}` behind a quoted word", next.unwrap_or_default());
                    return Err(error(self.at..self.at + 1, &title, "a space or `;` is missing"));
                }
                return Ok(Token::Word(unescaped(&self.text[start + 1..at])));
            }
        }
        let help = "write the same quote at the end of the text";
        Err(error(start..start + 1, "a quoted text has no end", "begins here").help(help))
    }

    /// A word without quotes. A brace behind `$` belongs to a variable.
    fn bare(&mut self) -> String {
        let start = self.at;
        let (mut previous, mut is_escaped) = (' ', false);
        let mut end = self.text.len();
        for (offset, letter) in self.text[start..].char_indices() {
            if is_escaped {
                is_escaped = false;
            } else if letter == '\\' {
                is_escaped = true;
            } else if letter.is_whitespace() || letter == ';' || (letter == '{' && previous != '$') {
                end = start + offset;
                break;
            }
            previous = letter;
        }
        self.at = end;
        unescaped(&self.text[start..end])
    }
}

/// Resolves the escapes that nginx knows; other backslashes stay, for regular expressions.
fn unescaped(text: &str) -> String {
    if !text.contains('\\') {
        return text.into();
    }
    let mut result = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            result.push(letter);
            continue;
        }
        match letters.next() {
            Some(quote @ ('"' | '\'' | '\\')) => result.push(quote),
            Some('t') => result.push('\t'),
            Some('r') => result.push('\r'),
            Some('n') => result.push('\n'),
            Some(other) => result.extend(['\\', other]),
            None => result.push('\\'),
        }
    }
    result
}

fn error(at: std::ops::Range<usize>, title: &str, label: &str) -> SyntaxError {
    SyntaxError { at, title: title.into(), label: label.into(), help: None }
}

impl SyntaxError {
    fn help(mut self, help: &str) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Directive>, SyntaxError> {
        parse(&"nginx.conf".into(), text, &mut 0)
    }

    /// The tree in a short form.
    fn shown(directives: &[Directive]) -> String {
        let one = |directive: &Directive| {
            let words: Vec<_> = directive.args.iter().map(|word| format!("{word:?}")).collect();
            let block = directive.block.as_ref().map(|block| format!("{{{}}}", shown(block)));
            format!("{}({}){}", directive.name, words.join(" "), block.unwrap_or_default())
        };
        directives.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words_quotes_and_blocks() {
        for (text, tree) in [
            ("a;", "a()"),
            ("a b  'c d' \"e;\";", r#"a("b" "c d" "e;")"#),
            ("a { b c; } d;", r#"a(){b("c")} d()"#),
            ("if ($x = \"a b\") { return 404; }", r#"if("($x" "=" "a b" ")"){return("404")}"#),
            ("set $a ${b}c;", r#"set("$a" "${b}c")"#),
            (r"rewrite ^/a\.b(.*)$ /c last;", r#"rewrite("^/a\\.b(.*)$" "/c" "last")"#),
            (r#"x "a\"b" 'c\'d' e\\f;"#, r#"x("a\"b" "c'd" "e\\f")"#),
            ("a b#c; # comment\n", r#"a("b#c")"#),
            ("a\n  b\n  # between\n  c;", r#"a("b" "c")"#),
            ("location ~ \"^/\\d{2}$\" {}", r#"location("~" "^/\\d{2}$"){}"#),
        ] {
            assert_eq!(read(text).map(|tree| shown(&tree)).as_deref(), Ok(tree), "{text}");
        }
    }

    #[test]
    fn places_and_comments() {
        let tree = read("# far\n\n# near\n  a b; # behind\nc {\n\td;\n}\n").unwrap();
        assert_eq!((tree[0].place.line, tree[0].place.column), (4, 3));
        assert_eq!(tree[0].comments, ["# near", "# behind"]);
        assert_eq!((tree[1].block.as_ref().unwrap()[0].place.line, tree[1].id), (6, 1));
        assert!(tree[1].comments.is_empty());
    }

    #[test]
    fn faults_have_a_place() {
        for (text, at, title) in [
            ("a", 0..1, "the directive `a` has no end"),
            ("http { a;", 5..6, "a block is not closed"),
            ("a; }", 3..4, "`}` closes nothing"),
            ("a 'b;", 2..3, "a quoted text has no end"),
            (";", 0..1, "`;` ends nothing"),
            ("a \"b\"c;", 5..6, "unexpected `c` behind a quoted word"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.at, error.title.as_str()), (at, title), "{text}");
        }
        assert!(read(&"a{".repeat(100)).is_err());
    }

    #[test]
    fn a_word_that_is_written_is_read_again() {
        for word in ["a", "", "a b", "a;b", r"^/\d{2}\.x$", "say \"x\"", "it's", r"\\", "${a}b", "#x"] {
            let text = format!("x {};", quoted(word));
            assert_eq!(read(&text).unwrap()[0].args, [word], "{text}");
        }
    }
}
