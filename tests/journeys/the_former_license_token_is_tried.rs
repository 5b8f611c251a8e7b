//! License Service reads its token when it starts: until then the one before the present one is the right one.

use std::io::Write as _;

use crate::{
    client::eventually,
    proxy::{USUAL_ROUTES, World},
    scripted::{in_front_of, scripted},
};

#[test]
fn a_license_service_that_was_not_restarted_is_served_the_token_that_it_knows() {
    let world = World::new();
    let proxy = world.start_with(&world.config("poll = '200ms'\n", USUAL_ROUTES));
    proxy.ready();
    assert_eq!(proxy.get("/license/products", &[]).status, 200);
    let old = world.simulator.license_token();
    let new = "canary+another/token=8d";
    world.simulator.configure_license_token(new);
    world.write("license-token", new);
    eventually("the new token, and a 401 for it", || {
        assert_eq!(proxy.get("/license/products", &[]).status, 200);
        proxy
            .printed()
            .contains("restart License Service")
            .then_some(())
    });
    let notes = proxy.admin("/readyz").text();
    assert!(notes.contains("restart License Service"), "{notes}");
    assert_eq!(proxy.get("/license/products", &[]).status, 200);

    world.simulator.restart_license_service();
    // A 401 on the old token counts once that has been in force again for a while.
    eventually("the new token is taken", || {
        (proxy.get("/license/products", &[]).status == 200).then_some(())
    });
    let notes = proxy.admin("/readyz").text();
    assert!(!notes.contains("restart License Service"), "{notes}");
    let mut secrets = world.secrets();
    secrets.extend([old, new.to_owned()]);
    proxy.end(secrets);
}

#[test]
fn one_forbidden_path_does_not_take_the_right_license_token_from_the_others() {
    let world = World::new();
    let new = "canary+another/token=8d";
    let address = scripted(move |stream, head| {
        let is_new = head.contains(&format!("iam-token: {new}"));
        let status = match (head.contains("/forbidden"), is_new) {
            (false, true) => "200 OK",
            (true, true) | (false, false) => "401 Unauthorized",
            // Whatever it is, it does not say that the old token is good.
            (true, false) => "503 Service Unavailable",
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    proxy.ready();
    let old = world.simulator.license_token();
    world.write("license-token", new);
    eventually("the new token", || {
        (proxy.get("/x", &[]).status == 200).then_some(())
    });
    for _ in 0..20 {
        assert_ne!(proxy.get("/forbidden", &[]).status, 200);
        assert_eq!(proxy.get("/x", &[]).status, 200);
    }
    let mut secrets = world.secrets();
    secrets.extend([old, new.to_owned()]);
    proxy.end(secrets);
}
