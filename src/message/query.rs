//! Parameters in the query of a request target (application/x-www-form-urlencoded).

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Values of a query parameter as an application decodes them, in whichever way name and value are encoded.
pub(crate) fn parameters<'a>(query: &'a [u8], name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    let name = name.as_bytes();
    query.split(|byte| *byte == b'&').filter_map(move |pair| {
        let at = memchr::memchr(b'=', pair);
        let key = &pair[..at.unwrap_or(pair.len())];
        let value = at.map_or(&b""[..], |at| &pair[at + 1..]);
        (key == name || *decoded(key) == *name).then(|| decoded(value))
    })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        return percent_decode(&spaced).collect::<Vec<u8>>().into();
    }
    percent_decode(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let values = |query: &'static str, name| -> Vec<String> {
            parameters(query.as_bytes(), name)
                .map(|value| String::from_utf8_lossy(&value).into_owned())
                .collect()
        };
        assert_eq!(values("a=1&b=2&a=3", "a"), ["1", "3"]);
        assert_eq!(values("%61=x%20y+z", "a"), ["x y z"]);
        assert_eq!(values("a&b=", "a"), [""]);
        assert_eq!(values("ab=1", "a"), [""; 0]);
    }
}
