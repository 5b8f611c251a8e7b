//! A server, before anything is sent to it: its addresses, a connection, its certificate, and what to do where one of
//! them is wrong.

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use token_source::{
    Origin,
    connect::{ConnectError, EgressError, Inspection, TlsInspection, inspect, with_causes},
    tls::Certificate,
};

use super::{
    distrust::{advice, reason},
    sheet::Sheet,
};

/// A server, and who uses it.
pub(super) struct Server<'a> {
    pub(super) origin: &'a Origin,
    /// Such as `upstream platform`.
    pub(super) users: Vec<String>,
}

/// Whether one connection is as good as the other: the same server, trusted in the same way.
pub(super) fn is_same(one: &Origin, other: &Origin) -> bool {
    let way = |origin: &Origin| origin.way().map(|way| way.map(|proxy| proxy.url()));
    (one.tls, &one.host, one.port, &one.trust) == (other.tls, &other.host, other.port, &other.trust)
        && way(one) == way(other)
}

/// The server alone, whatever part of it is meant.
pub(super) fn url(origin: &Origin) -> String {
    let server = Origin {
        base_path: String::new(),
        ..origin.clone()
    };
    server.url()
}

/// Looks at a server; whether a request may be sent to it.
pub(super) async fn examine<W: Write>(sheet: &mut Sheet<W>, server: &Server<'_>) -> bool {
    let url = url(server.origin);
    sheet.heading(format_args!("server {url} ({})", server.users.join(", ")));
    let found = inspect(server.origin, TIME_LIMIT).await;
    tell(sheet, server, &found, SystemTime::now())
}

/// Tells what was found; whether a request may be sent.
fn tell<W: Write>(
    sheet: &mut Sheet<W>,
    server: &Server<'_>,
    found: &Inspection,
    now: SystemTime,
) -> bool {
    if let Some((proxy, _)) = &found.through {
        sheet.ok(
            "proxy",
            format_args!("the way leads through {}", proxy.url()),
        );
    }
    match &found.addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let mut shown: Vec<_> = addresses.iter().map(|one| one.ip().to_string()).collect();
            shown.dedup();
            sheet.ok("name", shown.join(", "));
        }
        failed => {
            let cause = failed.as_ref().err();
            let cause = cause.map(|error| sheet.quote(&error.to_string()));
            sheet.fail(
                "name",
                cause.unwrap_or_else(|| "it has no address".to_owned()),
            );
            sheet.advise("check the host in the url, and the DNS of this machine or pod");
            return false;
        }
    }
    let mut is_connected = false;
    for (address, outcome) in &found.tried {
        match outcome {
            Ok(took) => {
                is_connected = true;
                sheet.ok(
                    "connection",
                    format_args!("{address} in {} ms", took.as_millis()),
                );
            }
            // Another address may do.
            Err(error) => {
                let cause = sheet.quote(&error.cause());
                sheet.warn("connection", format_args!("{address}: {cause}"));
            }
        }
    }
    if !is_connected {
        sheet.fail("connection", "no address accepts a connection");
        sheet
            .advise("check the port in the url, routes and firewalls, and whether the server runs");
        return false;
    }
    if let Some((_, Err(error))) = &found.through {
        sheet.fail("proxy", with_causes(error));
        sheet.advise(match error {
            EgressError::Login => {
                "proxy = { url = \"…\", username = \"…\", password = { file = \"…\" } } says who we are to it"
            }
            _ => "ask who runs it whether it lets this server be reached; proxy = \"none\" goes without",
        });
        return false;
    }
    match &found.tls {
        None => {
            sheet.warn("TLS", "none: everything is sent in clear");
            true
        }
        Some(tls) => tell_tls(sheet, server, tls, now),
    }
}

fn tell_tls<W: Write>(
    sheet: &mut Sheet<W>,
    server: &Server<'_>,
    tls: &TlsInspection,
    now: SystemTime,
) -> bool {
    let distrust = (tls.presented.as_ref()).and_then(|presented| presented.distrust.as_ref());
    match (&tls.outcome, distrust) {
        (Ok(version), _) if server.origin.trust.insecure => {
            sheet.warn("TLS", format_args!("{version}; not checked (insecure)"));
        }
        (Ok(version), _) => sheet.ok("TLS", format_args!("{version}; the server is trusted")),
        (Err(_), Some(distrust)) => {
            let reason = sheet.quote(reason(distrust, leaf(tls)));
            sheet.fail("TLS", format_args!("not trusted: {reason}"));
        }
        (Err(error), None) => sheet.fail("TLS", sheet.quote(&error.cause())),
    }
    if let Some(presented) = &tls.presented {
        for certificate in &presented.chain {
            tell_certificate(sheet, certificate);
        }
        if let (None, Some(leaf)) = (distrust, presented.chain.first())
            && leaf.not_after < now + SOON
        {
            sheet.warn("certificate", "ends within 14 days");
        }
    }
    match (&tls.outcome, distrust) {
        (Ok(_), _) => {}
        (Err(_), Some(distrust)) => {
            let redaction = sheet.redaction().clone();
            let quote = |name: &str| redaction.quote(name, LONGEST_NAME);
            for advice in advice(server, distrust, leaf(tls), quote) {
                sheet.advise(advice);
            }
        }
        (Err(ConnectError::Timeout), None) => {
            sheet.advise("something accepts connections there, but does not speak TLS");
        }
        (Err(_), None) => {
            sheet.advise("check that the server speaks TLS on this port, and the files in tls");
        }
    }
    tls.outcome.is_ok()
}

fn leaf(tls: &TlsInspection) -> Option<&Certificate> {
    tls.presented.as_ref()?.chain.first()
}

fn tell_certificate<W: Write>(sheet: &mut Sheet<W>, certificate: &Certificate) {
    let signer = if certificate.is_self_signed {
        "itself".to_owned()
    } else {
        sheet.quote(&certificate.issuer)
    };
    let subject = sheet.quote(&certificate.subject);
    let validity = format!(
        "{} to {}",
        date(certificate.not_before),
        date(certificate.not_after)
    );
    let names = if certificate.names.is_empty() {
        String::new()
    } else {
        let names: Vec<_> = (certificate.names.iter())
            .map(|name| sheet.quote(name))
            .collect();
        format!("; for {}", names.join(", "))
    };
    sheet.detail(
        "certificate",
        format_args!("{subject}; signed by {signer}; {validity}{names}"),
    );
}

/// `2026-03-01`.
fn date(time: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let mut text = humantime::format_rfc3339_seconds(time.min(last)).to_string();
    text.truncate("2026-03-01".len());
    text
}

/// In characters: as long as a DNS name may be.
const LONGEST_NAME: usize = 253;
const TIME_LIMIT: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use token_source::{
        connect::TlsError,
        tls::{Distrust, Presented},
    };

    use super::{super::distrust::NOT_THERE, *};

    fn day(day: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600)
    }

    /// What is told of a server that presents this certificate.
    fn told(
        host: &str,
        distrust: Option<Distrust>,
        change: impl FnOnce(&mut Certificate),
    ) -> String {
        let mut leaf = Certificate {
            subject: "CN=cpd".to_owned(),
            issuer: "CN=ingress-operator".to_owned(),
            not_before: day(20_000),
            not_after: day(20_365),
            names: vec!["cpd.example.com".to_owned()],
            is_authority: false,
            is_self_signed: false,
            pin: "sha256:AAAA".to_owned(),
        };
        change(&mut leaf);
        let outcome = match distrust {
            None => Ok("TLS 1.3"),
            Some(_) => Err(ConnectError::Tls(TlsError::Name)),
        };
        let tls = TlsInspection {
            presented: Some(Presented {
                chain: vec![leaf],
                distrust,
            }),
            outcome,
        };
        told_of(host, Some(tls), true)
    }

    fn told_of(host: &str, tls: Option<TlsInspection>, is_good: bool) -> String {
        let origin = Origin::parse(&format!("https://{host}"), std::sync::Arc::default()).unwrap();
        let server = Server {
            origin: &origin,
            users: vec!["upstream platform".to_owned()],
        };
        let address = "10.0.0.1:443".parse().unwrap();
        let tried = if is_good {
            vec![(address, Ok(Duration::from_millis(3)))]
        } else {
            vec![(address, Err(ConnectError::Timeout))]
        };
        let found = Inspection {
            through: None,
            addresses: Ok(vec![address]),
            tried,
            tls,
        };
        let trusted = found.tls.as_ref().is_none_or(|tls| tls.outcome.is_ok());
        let mut sheet = Sheet::new(Vec::new());
        sheet.redaction().add(&"hunter2-hunter2".into());
        let may_go_on = tell(&mut sheet, &server, &found, day(20_100));
        assert_eq!(may_go_on, trusted && is_good);
        assert_eq!(sheet.has_failed(), !may_go_on);
        let text = String::from_utf8(sheet.into_inner()).unwrap();
        // The name and the connection are the same each time.
        let lines = text.lines().filter(|line| !line.contains("  name  "));
        lines.fold("server\n".to_owned(), |text, line| text + line + "\n")
    }

    #[test]
    fn each_reason_has_its_advice() {
        let host = "cpd.example.com";
        let own = |leaf: &mut Certificate| leaf.is_self_signed = true;
        let as_it_is = |_: &mut Certificate| ();
        let all = [
            told(host, Some(Distrust::UnknownIssuer), as_it_is),
            told(
                "license.ibm-licensing.svc",
                Some(Distrust::UnknownIssuer),
                as_it_is,
            ),
            told(host, Some(Distrust::UnknownIssuer), own),
            told(host, Some(Distrust::Authority), own),
            told(host, Some(Distrust::WrongName), as_it_is),
            told(host, Some(Distrust::WrongPin), as_it_is),
            told(host, Some(Distrust::Expired), as_it_is),
            told(host, Some(Distrust::NotYetValid), as_it_is),
            told(
                host,
                Some(Distrust::Other("BadSignature".to_owned())),
                as_it_is,
            ),
        ];
        let advice = all.iter().flat_map(|text| text.lines());
        let advice = advice.filter(|line| line.contains("FAIL") || line.contains("to do"));
        let advice = advice.fold("each\n".to_owned(), |text, line| text + line + "\n");
        // Unless this is such a pod.
        let advice = advice.replace(NOT_THERE, "");
        expect![[r#"
            each
              FAIL  TLS          not trusted: no authority that is trusted has signed it
                    to do        upstream platform: tls = { ca = "FILE" } with the certificate of that authority (--ca FILE without a configuration file)
              FAIL  TLS          not trusted: no authority that is trusted has signed it
                    to do        upstream platform: tls = { ca = "/var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt" }
              FAIL  TLS          not trusted: the certificate is signed by itself
                    to do        upstream platform: tls = { pin = ["sha256:AAAA"] }
                    to do        only if this is the server's key: compare it by a way that nobody in between controls
              FAIL  TLS          not trusted: the certificate is an authority's own, signed by itself
                    to do        upstream platform: tls = { pin = ["sha256:AAAA"] }
                    to do        only if this is the server's key: compare it by a way that nobody in between controls
              FAIL  TLS          not trusted: the certificate is for other names
                    to do        use one of its names in the url; or, if it is the server you mean, upstream platform: tls = { server_name = "cpd.example.com" }
              FAIL  TLS          not trusted: its key is none of those in pin
                    to do        if the server's key was changed on purpose, upstream platform: tls = { pin = ["sha256:AAAA"] }
              FAIL  TLS          not trusted: the certificate has expired
                    to do        renew it at the server; if its time is not over, set the clock here
              FAIL  TLS          not trusted: the certificate is not valid yet
                    to do        set the clock here, or wait
              FAIL  TLS          not trusted: BadSignature
                    to do        replace the certificate; or upstream platform: tls = { pin = ["sha256:AAAA"] }
        "#]].assert_eq(&advice);
    }

    #[test]
    fn what_a_certificate_says_changes_nothing_else() {
        let text = told("cpd.example.com", Some(Distrust::WrongName), |leaf| {
            leaf.subject = "CN=\u{202e}cpd\x1b[31m hunter2-hunter2".to_owned();
            leaf.issuer = "CN=hunter2-hunter2\u{200b}".to_owned();
            leaf.names = vec![
                "x\", insecure = true, y = \"".to_owned(),
                "*.example.com".to_owned(),
                "hunter2-hunter2 ".to_owned(),
                "real.example.com".to_owned(),
            ];
        });
        expect![[r#"
            server
              ok    connection   10.0.0.1:443 in 3 ms
              FAIL  TLS          not trusted: the certificate is for other names
                    certificate  CN=cpd[31m ***; signed by CN=***; 2024-10-04 to 2025-10-04; for x", insecure = true, y = ", *.example.com, ***, real.example.com
                    to do        use one of its names in the url; or, if it is the server you mean, upstream platform: tls = { server_name = "real.example.com" }
        "#]].assert_eq(&text);
        let other = Distrust::Other("unknown \u{2066}hunter2-hunter2".to_owned());
        let text = told("cpd.example.com", Some(other), |_| ());
        assert!(text.contains("not trusted: unknown ***\n"), "{text}");
    }

    #[test]
    fn what_is_good_and_what_ends_soon() {
        let text = told("cpd.example.com", None, |leaf| leaf.not_after = day(20_110));
        expect![[r#"
            server
              ok    connection   10.0.0.1:443 in 3 ms
              ok    TLS          TLS 1.3; the server is trusted
                    certificate  CN=cpd; signed by CN=ingress-operator; 2024-10-04 to 2025-01-22; for cpd.example.com
              warn  certificate  ends within 14 days
        "#]].assert_eq(&text);
        let text = told_of("cpd.example.com", None, false);
        expect![[r#"
            server
              warn  connection   10.0.0.1:443: the server did not accept the connection in time
              FAIL  connection   no address accepts a connection
                    to do        check the port in the url, routes and firewalls, and whether the server runs
        "#]].assert_eq(&text);
        let silent = TlsInspection {
            presented: None,
            outcome: Err(ConnectError::Timeout),
        };
        expect![[r#"
            server
              ok    connection   10.0.0.1:443 in 3 ms
              FAIL  TLS          the server did not accept the connection in time
                    to do        something accepts connections there, but does not speak TLS
        "#]]
        .assert_eq(&told_of("cpd.example.com", Some(silent), true));
    }
}
