//! Files with users and hashes of their passwords, as Apache's `htpasswd` writes them.

use std::collections::HashMap;

/// Hashes of passwords by user.
pub type Users = HashMap<String, String>;

/// Reads the lines of a file: the users, and the numbers of wrong lines with the reason.
pub fn read(text: &str) -> (Users, Vec<(usize, String)>) {
    let (mut users, mut wrong) = (Users::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line) {
            Ok((user, hash)) => {
                // As in Apache and nginx the first line of a user counts.
                users.entry(user.into()).or_insert_with(|| hash.into());
            }
            Err(reason) => wrong.push((number + 1, reason.to_owned())),
        }
    }
    (users, wrong)
}

/// Reads `USER:HASH`. Other programs add more fields behind another colon.
fn entry(line: &str) -> Result<(&str, &str), &'static str> {
    let (user, rest) = line.split_once(':').ok_or("no colon between user and hash")?;
    let hash = rest.split(':').next().unwrap_or_default();
    match hash {
        _ if user.is_empty() => Err("no user before the colon"),
        "" => Err("no hash behind the colon"),
        _ if hash.starts_with('$') || hash.starts_with('{') => Ok((user, hash)),
        _ => Err("the password is neither a bcrypt, SHA-crypt, apr1 nor SHA-1 hash"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_and_a_hash() {
        let (users, wrong) =
            read("# staff\nanna:$2y$05$x\n\nbob:{SHA}x=\nanna:$apr1$y\nc\n:x\nd:plain\ne:$6$a:more\n");
        assert_eq!(users["anna"], "$2y$05$x");
        assert_eq!((users.len(), &*users["e"]), (3, "$6$a"));
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [6, 7, 8]);
    }
}
