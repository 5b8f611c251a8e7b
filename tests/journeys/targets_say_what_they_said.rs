//! What is asked for arrives as it was written, and a credential in the query stands there once.

use crate::{
    client,
    origin::{Origin, shown},
    proxy::World,
};

#[test]
fn targets_arrive_as_they_were_below_the_base_path() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let long = format!("/{}", "x".repeat(8 << 10));
    for target in [
        "/",
        "/?",
        "/%252e%252e/x",
        "/%c0%ae/x",
        "/a;v=1/b%20c?x=%zz&y=%&&;z=a%2fb??",
        &long,
    ] {
        let answer = proxy.get(target, &[]);
        assert_eq!(answer.text(), format!("GET {target} HTTP/1.1"));
    }
    world.end(proxy);
    origin.take();

    let based = world.start_with(&format!(
        "workers = 1\nadmin.address = '127.0.0.1:0'\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.raw]\nurl = 'http://{}/base'\nplain_http = true\n[route.raw]\npath = '/'\nupstream = 'raw'\n",
        origin.address
    ));
    for (target, arrives) in [
        ("/", "/base/"),
        ("/x", "/base/x"),
        ("/?a", "/base/?a"),
        ("/x/?", "/base/x/"),
    ] {
        assert_eq!(
            based.get(target, &[]).text(),
            format!("GET {arrives} HTTP/1.1"),
            "{target}"
        );
    }
    assert_eq!(based.get("/../x", &[]).status, 400);
    world.end(based);
}

#[test]
fn a_query_has_exactly_one_token_whatever_stands_before_it() {
    let world = World::new();
    let origin = Origin::answering(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    let proxy = origin.proxied(
        &world,
        "",
        "",
        "attach = [{ credential = 'raw', query = 'token' }]",
    );
    let many = "a&".repeat(9_998);
    for query in [
        "token=x",
        "a=%zz&token=%zz&%",
        "%74oken=x&t%6Fken=y&%54oken=z",
        "Token=x&TOKEN=y",
        "a=1;token=x&;token=y",
        "token",
        "token&token&token",
        "a=%26token=x",
        "&&token=x&&",
        "token%3dx",
        "%26token=x",
        "%3btoken=x",
        "a=b?token=x",
        "a#token=x",
        &format!("{many}token=x&b"),
        &format!("{many}%74oken=x"),
    ] {
        let answer = proxy.get(&format!("/x?{query}"), &[]);
        assert_eq!(answer.status, 204, "{}", shown(query.as_bytes()));
        let came = origin.take_whole().remove(0);
        let (_, came) = came.target().split_once('?').unwrap();
        let named = |pair: &&str| {
            let name = pair.split('=').next().unwrap();
            let name: Vec<u8> = percent_encoding::percent_decode_str(name).collect();
            name.eq_ignore_ascii_case(b"token")
        };
        for delimiters in [&['&'][..], &['&', ';']] {
            let tokens: Vec<_> = came.split(delimiters).filter(named).collect();
            assert_eq!(
                tokens,
                ["token=canary%2Blicense%2Ftoken%3D7c"],
                "{}",
                shown(came.as_bytes())
            );
        }
    }
    // More pairs than some servers look at.
    let answer = proxy.get(&format!("/x?{many}a&a&token=x"), &[]);
    assert_eq!(answer.code(), "bad_request");
    assert!(origin.take_whole().is_empty());
    world.end(proxy);
}

#[test]
fn a_target_without_a_path_asks_for_the_root() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    for (target, arrives) in [
        ("http://localhost?a=b", "/?a=b"),
        ("http://localhost", "/"),
        ("http://localhost/?a=b", "/?a=b"),
    ] {
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = client::exchange(client::connect(proxy.address()), request.as_bytes());
        assert_eq!(answer.text(), format!("GET {arrives} HTTP/1.1"), "{target}");
    }
    world.end(proxy);
}
