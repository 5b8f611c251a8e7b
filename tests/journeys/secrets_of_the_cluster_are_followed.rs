//! A token in a Secret that no pod of this namespace could mount: read and watched by the Kubernetes API.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use simulator::cluster::{Cluster, Verb, WatchEnd, kubeconfig};

use crate::{
    client::eventually,
    proxy::{Proxy, World},
    scripted::{Nobody, scripted},
};

const NAMESPACE: &str = "ibm-licensing";
const NAME: &str = "ibm-licensing-token";
const TOKENS: [&str; 4] = [
    "canary-one-51",
    "canary-two-52",
    "canary-three-53",
    "canary-four-54",
];

/// Where the proxy finds the cluster.
fn lead_to(world: &World, cluster: SocketAddr) {
    std::fs::create_dir_all(world.path(".kube")).unwrap();
    world.write(".kube/config", &kubeconfig(cluster));
}

/// The same, where a program says who asks. It runs as long as there is a file `hang`, and notes each start in
/// `started`; what it says has ended already, so that it is run before each request.
fn lead_to_with_program(world: &World, cluster: &Cluster) {
    let program = r#"#!/bin/sh
cd "$(dirname "$0")" && echo one >> started
while [ -e hang ]; do sleep 0.02; done
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"TOKEN","expirationTimestamp":"2020-01-01T00:00:00Z"}}'
"#;
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&cluster.kubeconfig()).unwrap();
    let user = &mut kubeconfig["users"][0]["user"];
    let token = user["token"].take();
    world.write(
        "program",
        &program.replace("TOKEN", token.as_str().unwrap()),
    );
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(world.path("program"), executable).unwrap();
    *user = serde_json::json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": world.path("program"),
        "interactiveMode": "Never",
    }});
    std::fs::create_dir_all(world.path(".kube")).unwrap();
    world.write(".kube/config", &kubeconfig.to_string());
}

fn started(world: &World) -> usize {
    std::fs::read_to_string(world.path("started")).map_or(0, |text| text.lines().count())
}

/// A proxy that takes the token of License Service from a Secret, and what License Service got of it last. That one
/// takes every token: a rejection would make the proxy look by itself.
fn start(world: &World) -> (Proxy, Arc<Mutex<String>>) {
    start_with(world, "")
}

/// The same with more tables.
fn start_with(world: &World, tables: &str) -> (Proxy, Arc<Mutex<String>>) {
    let got = Arc::new(Mutex::new(String::new()));
    let last = Arc::clone(&got);
    let license = scripted(move |stream, head| {
        *last.lock().unwrap() = head;
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let proxy = world.start_with(&format!(
        r#"
workers = 1
poll = "1h"
admin.address = "127.0.0.1:0"
listener.local = {{ address = "127.0.0.1:0" }}
[upstream.license]
url = "http://{license}"
plain_http = true
[credential.license.token]
value = {{ kubernetes_secret = {{ namespace = "{NAMESPACE}", name = "{NAME}", key = "token" }} }}
[route.license]
path = "/license"
upstream = "license"
attach = "license"
preset = "license-service"
{tables}"#
    ));
    (proxy, got)
}

/// Waits until License Service gets this token.
fn until_sent((proxy, got): &(Proxy, Arc<Mutex<String>>), token: &str) {
    eventually("another token", || {
        let is_answered = proxy.get("/license/products", &[]).status == 200;
        (is_answered && got.lock().unwrap().contains(token)).then_some(())
    });
}

fn end(world: &World, proxy: Proxy) {
    let mut secrets: Vec<_> = TOKENS.map(str::to_owned).into();
    secrets.extend(world.secrets());
    proxy.end(secrets);
}

#[test]
fn a_changed_secret_is_sent_without_a_restart_and_a_deleted_one_is_kept() {
    let (world, cluster) = (World::new(), Cluster::start().unwrap());
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    lead_to(&world, cluster.address());
    let pair = start(&world);
    let proxy = &pair.0;
    until_sent(&pair, TOKENS[0]);
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[1])]);
    until_sent(&pair, TOKENS[1]);
    assert_eq!(cluster.asked(NAMESPACE, NAME), [Verb::List, Verb::Watch]);

    cluster.delete(NAMESPACE, NAME);
    eventually("the loss in the log", || {
        proxy
            .printed()
            .contains("credential not obtained")
            .then_some(())
    });
    until_sent(&pair, TOKENS[1]);
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[2])]);
    until_sent(&pair, TOKENS[2]);
    end(&world, pair.0);
}

#[test]
fn a_cluster_may_become_known_later() {
    let (world, cluster) = (World::new(), Cluster::start().unwrap());
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    let pair = start(&world);
    eventually("the unknown cluster in the log", || {
        let told = "is in a cluster that is not known";
        pair.0.printed().contains(told).then_some(())
    });
    lead_to(&world, cluster.address());
    until_sent(&pair, TOKENS[0]);
    end(&world, pair.0);
}

#[test]
fn a_right_may_be_granted_later() {
    let (world, cluster) = (World::new(), Cluster::start().unwrap());
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    cluster.refuse(NAMESPACE, NAME, Some(403));
    lead_to(&world, cluster.address());
    let pair = start(&world);
    eventually("the refusal in the log", || {
        let told = "wants a right to get, list and watch it";
        pair.0.printed().contains(told).then_some(())
    });
    cluster.refuse(NAMESPACE, NAME, None);
    until_sent(&pair, TOKENS[0]);
    end(&world, pair.0);
}

#[test]
fn a_program_of_the_kubeconfig_that_hangs_is_named_and_run_once() {
    let (world, cluster) = (World::new(), Cluster::start().unwrap());
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    lead_to_with_program(&world, &cluster);
    world.write("hang", "");
    let pair = start(&world);
    eventually("the program in the log", || {
        let told = "the program of the kubeconfig does not end";
        pair.0.printed().contains(told).then_some(())
    });
    // Those who ask again, as they do every few seconds, wait for the one that runs.
    eventually("another attempt", || {
        let told = "Kubernetes Secret still not followed";
        pair.0.printed().contains(told).then_some(())
    });
    assert_eq!(started(&world), 1);
    std::fs::remove_file(world.path("hang")).unwrap();
    until_sent(&pair, TOKENS[0]);
    end(&world, pair.0);
}

#[test]
fn a_program_that_hangs_later_stops_no_watch() {
    let (world, cluster) = (World::new(), Cluster::start().unwrap());
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    cluster.put(NAMESPACE, "other", &[("token", TOKENS[3])]);
    lead_to_with_program(&world, &cluster);
    let pair = start_with(
        &world,
        &format!(
            r#"[credential.other.token]
value = {{ kubernetes_secret = {{ namespace = "{NAMESPACE}", name = "other", key = "token" }} }}
"#
        ),
    );
    let proxy = &pair.0;
    until_sent(&pair, TOKENS[0]);
    eventually("two watches", || {
        let is_watched = |name| cluster.asked(NAMESPACE, name).contains(&Verb::Watch);
        (is_watched(NAME) && is_watched("other")).then_some(())
    });
    // The one that is not watched any more wants a new list, and for that the program runs and hangs.
    let before = started(&world);
    world.write("hang", "");
    cluster.end_watches(NAMESPACE, "other", WatchEnd::Cut);
    eventually("another start of the program", || {
        (started(&world) > before).then_some(())
    });
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[1])]);
    until_sent(&pair, TOKENS[1]);
    eventually("the program in the log", || {
        let told = "the program of the kubeconfig does not end";
        proxy.printed().contains(told).then_some(())
    });
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[2])]);
    until_sent(&pair, TOKENS[2]);
    std::fs::remove_file(world.path("hang")).unwrap();
    eventually("the other one again", || {
        let told = "Kubernetes Secret is followed again";
        proxy.printed().contains(told).then_some(())
    });
    end(&world, pair.0);
}

#[test]
fn an_api_that_fails_costs_nothing_but_news() {
    let world = World::new();
    let nobody = Nobody::new();
    lead_to(&world, nobody.address());
    let pair = start(&world);
    let proxy = &pair.0;
    eventually("the refused connection in the log", || {
        let printed = proxy.printed();
        printed
            .contains("the Kubernetes API is not reached")
            .then_some(())
    });
    assert_eq!(proxy.get("/license/products", &[]).status, 503);

    let cluster = Cluster::start_on(nobody.listen()).unwrap();
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[0])]);
    until_sent(&pair, TOKENS[0]);

    // An answer that cannot be read, with the secret in it: the client's own log would have it.
    let lists = || {
        let asked = cluster.asked(NAMESPACE, NAME);
        asked.iter().filter(|verb| **verb == Verb::List).count()
    };
    cluster.spoil(NAMESPACE, NAME, true);
    cluster.end_watches(NAMESPACE, NAME, WatchEnd::Gone);
    let before = lists();
    eventually("another list", || (lists() > before).then_some(()));
    until_sent(&pair, TOKENS[0]);
    cluster.spoil(NAMESPACE, NAME, false);
    cluster.put(NAMESPACE, NAME, &[("token", TOKENS[3])]);
    until_sent(&pair, TOKENS[3]);
    assert!(
        proxy
            .printed()
            .contains("Kubernetes Secret is followed again")
    );
    end(&world, pair.0);
}
