//! Comments that explain something, and are worth keeping.

use super::syntax::Directive;

/// Most lines of a comment that are kept.
const MOST: usize = 6;

/// The comments of a directive that explain: no directives that were commented out, no lines of signs, no notices of
/// programs that have written the file.
pub fn of(directive: &Directive) -> Vec<String> {
    let texts = directive.comments.iter().map(|comment| comment.trim_start_matches('#').trim());
    let kept: Vec<String> = texts.filter(|text| explains(text)).map(|text| format!("# {text}")).collect();
    if kept.len() > MOST { Vec::new() } else { kept }
}

fn explains(text: &str) -> bool {
    let is_code = text.ends_with([';', '{', '}']);
    let lower = text.to_lowercase();
    let is_notice =
        ["maintained by", "ansible", "vim:", "managed by", "certbot", "do not edit", "--- ", "overwritten"]
            .iter()
            .any(|word| lower.contains(word));
    text.chars().filter(|letter| letter.is_alphabetic()).count() > 3 && !is_code && !is_notice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_kept() {
        for (text, keeps) in [
            ("Serve the welcome page of each host", true),
            ("proxy_pass http://galaxy;", false),
            ("location / {", false),
            ("----", false),
            ("", false),
            ("vim: set filetype=nginx", false),
            ("This file is maintained by Ansible - CHANGES WILL BE OVERWRITTEN", false),
        ] {
            assert_eq!(explains(text), keeps, "{text}");
        }
    }
}
