//! Programs that others have written, and what they think of us.

use std::process::Command;

use super::simple;
use crate::fixtures::{run, venv};

#[tokio::test(flavor = "multi_thread")]
async fn curl_believes_the_authority() {
    let simple = simple("", "").await;
    let ca = simple.authority.write(&simple.scratch, "ca");
    let address = simple.target().address();
    for (version, code) in [("1.1", None), ("1.2", Some(0)), ("1.3", Some(0))] {
        let mut curl = Command::new("curl");
        curl.args(["-m", "10", "-sf", "--connect-to", &format!("::{address}"), "--cacert"]).arg(&ca);
        curl.args([&format!("--tlsv{version}"), "--tls-max", version, "https://localhost/"]);
        let (got, said, error) = run(&mut curl);
        match code {
            Some(code) => assert_eq!((got, said.as_str()), (Some(code), "localhost"), "{version}: {error}"),
            None => assert_ne!(got, Some(0), "{version}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslyze_finds_mozillas_intermediate() {
    let simple = simple("redirect_https = { hsts = \"730d\" }", "").await;
    let program = venv().join("bin/sslyze");
    assert!(program.exists(), "{} is missing: `make venv` installs it", program.display());
    let ca = simple.authority.write(&simple.scratch, "ca");
    let mut sslyze = Command::new("timeout");
    sslyze.arg("100").arg(program).args(["--mozilla_config", "intermediate", "--sni", "localhost"]);
    sslyze.arg("--certinfo_ca_file").arg(ca).arg(simple.target().address().to_string());
    let (_, said, error) = run(&mut sslyze);
    let (_, verdict) = said.split_once("COMPLIANCE AGAINST").unwrap_or_else(|| panic!("{said}{error}"));
    // What is said of a certificate that was made here for a hundred days by an authority that nobody knows is no news.
    let found: Vec<&str> = verdict.lines().map(str::trim).filter(|line| line.starts_with("* ")).collect();
    let ours: Vec<_> = found
        .iter()
        .filter(|line| !line.starts_with("* certificate") && !line.starts_with("* maximum_certificate"))
        .collect();
    assert!(ours.is_empty(), "{verdict}");
    assert!(!said.contains("VULNERABLE - "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn testssl_finds_nothing_to_worry_about() {
    let simple = simple("redirect_https = { hsts = \"730d\" }", "").await;
    let ca = simple.authority.write(&simple.scratch, "ca");
    let json = simple.scratch.path("testssl.json");
    let mut testssl = Command::new("timeout");
    testssl.args(["240", "testssl", "--quiet", "--color", "0", "--fast", "-p", "-f", "-S", "--vulnerable"]);
    testssl.args(["--warnings", "off", "--ip", "127.0.0.2", "--jsonfile"]).arg(&json).arg("--add-ca").arg(ca);
    let port = simple.target().address().port();
    let (_, said, error) = run(testssl.arg(format!("localhost:{port}")));
    let text = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{said}{error}"));
    let findings: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let word = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(findings.iter().any(|finding| word(finding, "id") == "TLS1_3"), "{text}");
    let severe = ["MEDIUM", "HIGH", "CRITICAL", "FATAL"];
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| severe.contains(&&*word(finding, "severity")))
        // Those are about the certificate that was made here.
        .filter(|finding| !word(finding, "id").starts_with("cert") && !word(finding, "id").contains("OCSP"))
        .filter(|finding| !matches!(&*word(finding, "id"), "DNS_CAArecord" | "cert_chain_of_trust"))
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
