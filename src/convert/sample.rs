//! Paths that a route is for, and texts that an expression matches.

use regex_syntax::hir::{Hir, HirKind};

/// Texts of an expression that are tried.
const SEEDS: u64 = 8;

/// Paths of the route with a key.
pub fn samples_of(key: &str) -> Vec<String> {
    if let Some(path) = key.strip_prefix("= ") {
        return vec![path.to_owned()];
    }
    if let Some(source) = key.strip_prefix("~* ").or_else(|| key.strip_prefix("~ ")) {
        let texts = (0..SEEDS).filter_map(|seed| sample(source, seed));
        return texts
            .map(|text| if text.starts_with('/') { text } else { format!("/some/{text}") })
            .collect();
    }
    let bare = key.trim_start_matches("^~ ").trim_end_matches('/');
    let below = ["", "/", "/x", "/x.js", "/a/b.css", "/a/b/c/d.png"].map(|rest| format!("{bare}{rest}"));
    below.into_iter().filter(|path| !path.is_empty()).collect()
}

/// A text that an expression matches; another one for each seed.
pub fn sample(source: &str, seed: u64) -> Option<String> {
    let hir = regex_syntax::parse(source).ok()?;
    let mut text = String::new();
    let mut random = fastrand::Rng::with_seed(seed);
    generate(&hir, &mut random, &mut text);
    Some(text)
}

fn generate(hir: &Hir, random: &mut fastrand::Rng, text: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.push(letter(class, random)),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX).min(repetition.min.saturating_add(4));
            for _ in 0..random.u32(repetition.min..=most) {
                generate(&repetition.sub, random, text);
            }
        }
        HirKind::Capture(capture) => generate(&capture.sub, random, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| generate(part, random, text)),
        HirKind::Alternation(parts) => generate(&parts[random.usize(..parts.len())], random, text),
    }
}

/// A plain letter of a class, if it has one.
fn letter(class: &regex_syntax::hir::Class, random: &mut fastrand::Rng) -> char {
    const PLAIN: &str = "abcdefghijklmnopqrstuvwxyz0123456789-";
    let has = |letter: char| match class {
        regex_syntax::hir::Class::Unicode(class) => {
            class.ranges().iter().any(|range| range.start() <= letter && letter <= range.end())
        }
        regex_syntax::hir::Class::Bytes(class) => class
            .ranges()
            .iter()
            .any(|range| char::from(range.start()) <= letter && letter <= char::from(range.end())),
    };
    let plain: Vec<char> = PLAIN.chars().filter(|letter| has(*letter)).collect();
    let first = match class {
        regex_syntax::hir::Class::Unicode(class) => {
            class.ranges().first().map(regex_syntax::hir::ClassUnicodeRange::start)
        }
        regex_syntax::hir::Class::Bytes(class) => {
            class.ranges().first().map(|range| char::from(range.start()))
        }
    };
    match plain.is_empty() {
        true => first.unwrap_or('x'),
        false => plain[random.usize(..plain.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::{super::map, *};

    #[test]
    fn samples_match_their_expression() {
        for source in [
            "^/api/jobs/[^/]+/files$",
            "^/plugins/(?<a>[^/]+?)/((?<b>[^/_]*)_?)?(?<c>[^/]*?)/static/(?<d>.*?)$",
            "^/(oidc|auth0)/login$",
            r"\.(css|js)$",
        ] {
            for seed in 0..20 {
                let text = sample(source, seed).unwrap();
                assert!(map::compiled(source, false).unwrap().is_match(&text), "{source} {text}");
            }
        }
    }
}
