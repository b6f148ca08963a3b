//! Addresses of interactive tools: `KEY-TOKEN.ep.PREFIX.HOST`, and `/PREFIX/ep/KEY/TOKEN/…`.

/// Key and token of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ToolAddress<'a> {
    pub(crate) key: &'a str,
    pub(crate) token: &'a str,
}

/// The second label of a tool's host name, and the last part of the path before a tool: Galaxy's name of entry points.
const ENTRY_POINT: &str = "ep";

/// Longest key and token. Galaxy's have 16 or more and 32 characters; a label of a host name has 63.
const LONGEST: usize = 256;

/// The tool that a host name is for; `None` where it has not the form of one.
pub(crate) fn of_host(host: &str) -> Option<ToolAddress<'_>> {
    let (first, rest) = host.split_once('.')?;
    let (second, _) = rest.split_once('.')?;
    let (key, token) = first.split_once('-').filter(|_| second.eq_ignore_ascii_case(ENTRY_POINT))?;
    address(key, token)
}

/// The tool that a path below the route's prefix is for (`/KEY/TOKEN/…`), and the length of its part of the path.
pub(crate) fn of_path(rest: &str) -> Option<(ToolAddress<'_>, usize)> {
    let (key, rest_of_key) = rest.strip_prefix('/')?.split_once('/')?;
    let token = rest_of_key.split('/').next().unwrap_or_default();
    Some((address(key, token)?, key.len() + token.len() + 2))
}

fn address<'a>(key: &'a str, token: &'a str) -> Option<ToolAddress<'a>> {
    let is_plain = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)
    };
    (is_plain(key) && is_plain(token)).then_some(ToolAddress { key, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_the_key_and_the_token_in_its_first_label() {
        let read = |host| of_host(host).map(|found| (found.key, found.token));
        assert_eq!(read("24ab-c0ffee.ep.interactivetool.galaxy.example.org"), Some(("24ab", "c0ffee")));
        assert_eq!(
            read("24ab-c0-ffee.EP.interactivetool.galaxy.example.org:8080"),
            Some(("24ab", "c0-ffee"))
        );
        for host in [
            "galaxy.example.org",
            "my-galaxy.example.org",
            "24abc0ffee.ep.interactivetool.galaxy.example.org",
            "-c0ffee.ep.interactivetool.galaxy.example.org",
            "24ab-.ep.interactivetool.galaxy.example.org",
            "24ab-c0ffee.ep",
            "24ab-c0%66.ep.interactivetool.galaxy.example.org",
            "",
        ] {
            assert_eq!(read(host), None, "{host}");
        }
    }

    #[test]
    fn a_path_has_them_in_its_first_two_segments() {
        let read = |rest| of_path(rest).map(|(found, length)| (found.key, found.token, length));
        assert_eq!(read("/24ab/c0ffee/lab/tree"), Some(("24ab", "c0ffee", 12)));
        assert_eq!(read("/24ab/c0ffee/"), Some(("24ab", "c0ffee", 12)));
        assert_eq!(read("/24ab/c0ffee"), Some(("24ab", "c0ffee", 12)));
        for rest in
            ["", "/", "/24ab", "/24ab/", "//c0ffee/", "24ab/c0ffee/", "/24ab/c0%66/", "/../24ab/c0ffee/"]
        {
            assert_eq!(read(rest), None, "{rest}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_found_is_a_part_of_the_text(text in "[-./a-z%A-Z0-9é]{0,40}|[a-f0-9]{2,4}-[a-f0-9]{2,4}\\.ep\\..{0,9}") {
            if let Some((found, length)) = of_path(&text) {
                proptest::prop_assert_eq!(&text[..length], format!("/{}/{}", found.key, found.token));
            }
            if let Some(found) = of_host(&text) {
                let label = [found.key, "-", found.token, "."].concat();
                proptest::prop_assert!(text.starts_with(&label));
            }
        }
    }
}
