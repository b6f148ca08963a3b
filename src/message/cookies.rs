//! Cookies of a request.

use http::header;

use super::RawHeaders;

/// The values of a cookie (RFC 6265 §5.4), nearly always one.
pub(crate) fn cookies<'a>(request: &'a RawHeaders, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let lines = request.values(&header::COOKIE);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let request =
            RawHeaders::of(&[("cookie", "xgalaxysession=1; a=b"), ("cookie", "c=d;galaxysession=me=2")]);
        let cookie = |name| cookies(&request, name).next();
        assert_eq!(cookie("galaxysession"), Some(b"me=2".as_slice()));
        assert_eq!(cookie("a"), Some(b"b".as_slice()));
        assert_eq!(cookie("galaxy"), None);
    }
}
