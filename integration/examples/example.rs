//! A file of `conf/`, with the machine that it expects in a scratch folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::fixtures::{Authority, Gunicorn, Proxy, Scratch, free_port, run};

/// Host of the examples.
pub const NAME: &str = "galaxy.example.org";

/// Places of a real machine; an example has them in a scratch folder.
const PLACES: [&str; 8] = [
    "/srv/galaxy",
    "/run/galaxy",
    "/run/bowshock",
    "/var/log/bowshock",
    "/var/lib/bowshock",
    "/etc/bowshock",
    "/etc/ssl/galaxy",
    "/data",
];

/// Sockets of a real machine; an example has free ports of loopback in their place.
const SOCKETS: [&str; 5] = ["[::]:8080", "[::]:8443", "127.0.0.1:8080", "127.0.0.1:9180", "127.0.0.1:8181"];

/// A file of `conf/`, and the machine that it expects.
pub struct Example {
    pub text: String,
    pub scratch: Scratch,
    pub authority: Authority,
}

impl Example {
    /// Reads `conf/NAME`, and makes the files that the examples name.
    pub fn of(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        let (scratch, authority) = (Scratch::new(), Authority::new("our authority"));
        let mut text = fs::read_to_string(file).unwrap();
        for place in PLACES.iter().chain(&["/etc/letsencrypt"]) {
            let here = scratch.path(&place[1..]);
            fs::create_dir_all(&here).unwrap();
            for before in ["\"", "unix:", "file:"] {
                text = text.replace(&format!("{before}{place}"), &format!("{before}{}", here.display()));
            }
        }
        for socket in SOCKETS {
            text = text.replace(socket, &format!("127.0.0.1:{}", free_port()));
        }
        if !text.contains("[admin]") {
            text = format!("[admin]\nlisten = \"unix:{}\"\n{text}", scratch.path("admin.sock").display());
        }
        let identity = authority.server(&[NAME, "*.ep.interactivetool.galaxy.example.org"]);
        for folder in ["etc/letsencrypt/live/galaxy", "etc/ssl/galaxy"] {
            let folder = scratch.path(folder);
            fs::create_dir_all(&folder).unwrap();
            identity.write_to(&folder, "galaxy");
            fs::rename(folder.join("galaxy.crt"), folder.join("fullchain.pem")).unwrap();
            fs::rename(folder.join("galaxy.key"), folder.join("privkey.pem")).unwrap();
        }
        fs::copy(authority.write(&scratch, "authority"), scratch.path("etc/ssl/galaxy/our-authority.pem"))
            .unwrap();
        for file in ["favicon.ico", "robots.txt", "style/base.css"] {
            scratch.write(&format!("srv/galaxy/server/static/{file}"), file);
        }
        for folder in
            ["srv/galaxy/var", "srv/galaxy/custom/static", "srv/galaxy/server/config/plugins/visualizations"]
        {
            fs::create_dir_all(scratch.path(folder)).unwrap();
        }
        scratch.write("srv/galaxy/errors/404.html", "<h1>Not at our place</h1>");
        scratch.write("srv/galaxy/var/secret.dat", "a secret");
        scratch.write("data/set.dat", "a dataset");
        scratch.write("data/shared/reads.txt", "shared");
        scratch.write("etc/bowshock/tor-exits.txt", "192.0.2.7\n");
        scratch.write("etc/bowshock/htpasswd", "anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
        scratch.write("etc/bowshock/gx_secret", "s3cret\n");
        scratch.write("etc/bowshock/redirects.txt", "/old /new 301\n");
        scratch.write(&format!("srv/galaxy/welcome/{NAME}.html"), "welcome");
        Self { text, scratch, authority }
    }

    /// Replaces what stands in the file.
    #[track_caller]
    pub fn with(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "{old} in {}", self.text);
        self.text = self.text.replace(old, new);
        self
    }

    /// Writes the galaxy.yml that the first comment shows.
    pub fn galaxy_yml(self, name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        let text = fs::read_to_string(file).unwrap();
        let (_, after) = text.split_once("(galaxy.yml):\n").unwrap();
        let lines = after.lines().map_while(|line| line.strip_prefix("#   "));
        let mut yaml: String = lines.map(|line| format!("{line}\n")).collect();
        for place in PLACES {
            for before in [" ", "unix:"] {
                yaml = yaml
                    .replace(&format!("{before}{place}"), &format!("{before}{}", self.path(place).display()));
            }
        }
        self.scratch.write("srv/galaxy/config/galaxy.yml", yaml);
        self
    }

    /// Adds the two listeners that a file without any has: on ports 80 and 443.
    pub fn listening(mut self) -> (Self, u16, u16) {
        let (http, https) = (free_port(), free_port());
        self.text.push_str(&format!(
            "\n[[listen]]\naddress = \"127.0.0.1:{http}\"\n[[listen]]\naddress = \"127.0.0.1:{https}\"\ntls = true\n"
        ));
        (self, http, https)
    }

    pub fn path(&self, place: &str) -> PathBuf {
        self.scratch.path(&place[1..])
    }

    /// The value of a key of `[admin]`, or of the first server of an upstream.
    pub fn quoted_after(&self, table: &str, key: &str) -> String {
        let (_, after) = self.text.split_once(table).unwrap();
        let (_, value) = after.split_once(key).unwrap();
        value.split('"').nth(1).unwrap().to_owned()
    }

    /// A gunicorn on the socket that the examples name.
    pub async fn gunicorn(&self, number: u32) -> Gunicorn {
        Gunicorn::app().unix(self.path(&format!("/run/galaxy/gunicorn{number}.sock"))).start().await
    }

    /// Starts the proxy with the file, which is good without a warning.
    pub async fn start(&self) -> Proxy {
        let file = self.scratch.write("bowshock.toml", &self.text);
        let (code, out, err) = run(Proxy::command(["check", "-c"]).arg(&file));
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(!err.contains("warning"), "{err}");
        Proxy::verbatim(&self.text, &self.quoted_after("[admin]", "listen =")).start().await
    }
}
