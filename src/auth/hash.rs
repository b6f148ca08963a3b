//! Formats of password hashes: bcrypt, SHA-crypt, MD5-crypt (`apr1`), SHA-1.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::Md5;
use sha_crypt::{PasswordVerifier, ShaCrypt};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// Whether a password is the one that was hashed. Takes from microseconds (SHA-1) to seconds (bcrypt of a high cost).
pub(super) fn verify(password: &[u8], hash: &str) -> bool {
    let is_bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
    if is_bcrypt {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    if hash.starts_with("$5$") || hash.starts_with("$6$") {
        return ShaCrypt::default().verify_password(password, hash).is_ok();
    }
    if let Some(found) = md5_crypt(password, hash) {
        return is_same(found.as_bytes(), hash.as_bytes());
    }
    if let Some(encoded) = hash.strip_prefix("{SHA}") {
        return is_same(STANDARD.encode(Sha1::digest(password)).as_bytes(), encoded.as_bytes());
    }
    if let Some(encoded) = hash.strip_prefix("{SSHA}") {
        let Ok(decoded) = STANDARD.decode(encoded) else { return false };
        let Some((digest, salt)) = decoded.split_at_checked(20) else { return false };
        return is_same(&Sha1::new().chain_update(password).chain_update(salt).finalize(), digest);
    }
    match hash.strip_prefix("{PLAIN}") {
        Some(plain) => is_same(password, plain.as_bytes()),
        None => false,
    }
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// The MD5-crypt hash of a password with the salt of `hash`; `None` where that is of another kind. Apache's `apr1` and
/// crypt(3)'s `1` differ in this word only.
fn md5_crypt(password: &[u8], hash: &str) -> Option<String> {
    let (kind, rest) =
        ["$apr1$", "$1$"].into_iter().find_map(|kind| Some((kind, hash.strip_prefix(kind)?)))?;
    let salt = rest.split('$').next()?;
    let salt = salt.as_bytes().get(..8).unwrap_or(salt.as_bytes());
    let digest = md5_crypt_digest(password, kind.as_bytes(), salt);
    Some(format!("{kind}{}${}", String::from_utf8_lossy(salt), crypt_base64(&digest)))
}

fn md5_crypt_digest(password: &[u8], kind: &[u8], salt: &[u8]) -> [u8; 16] {
    let mut first = Md5::new().chain_update(password).chain_update(kind).chain_update(salt);
    let second = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    for part in 0..password.len().div_ceil(16) {
        first.update(&second[..(password.len() - part * 16).min(16)]);
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest = first.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        next.update(if round % 2 == 1 { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round % 2 == 1 { &digest[..] } else { password });
        digest = next.finalize();
    }
    digest.into()
}

/// The text of an MD5-crypt digest: six bits a letter, of three bytes each in this order.
fn crypt_base64(digest: &[u8; 16]) -> String {
    const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut text = String::new();
    let mut put = |mut value: u32, letters: usize| {
        for _ in 0..letters {
            text.push(char::from(LETTERS[value as usize & 63]));
            value >>= 6;
        }
    };
    for [high, middle, low] in ORDER {
        let byte = |place: usize| u32::from(digest[place]);
        put(byte(high) << 16 | byte(middle) << 8 | byte(low), 4);
    }
    put(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_every_kind_are_verified() {
        for hash in [
            "$2y$05$Jd3/8Ea.769NyUW/d2Uu.epVC4tr.mn0kDo2lrjf9gcpCsKp6/F/K",
            "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
            "$apr1$VEV1U5VT$t/Nfi042aQlxzJGKJ34iq1",
            "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
            "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
            "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
            "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
            "{PLAIN}secret",
        ] {
            assert!(verify(b"secret", hash), "{hash}");
            for wrong in
                ["", "Secret", "secret ", "a much longer password that fills several blocks of MD5 and SHA"]
            {
                assert!(!verify(wrong.as_bytes(), hash), "{hash}: {wrong}");
            }
        }
    }

    #[test]
    fn what_is_no_hash_fits_no_password() {
        for hash in [
            "",
            "secret",
            "$",
            "$2y$",
            "$2y$99$x",
            "$apr1$",
            "$1$",
            "$5$",
            "$6$rounds=x$y",
            "{SHA}",
            "{SSHA}",
            "{SSHA}eA==",
            "{X}y",
        ] {
            assert!(!verify(b"secret", hash) && !verify(b"", hash), "{hash}");
        }
    }
}
