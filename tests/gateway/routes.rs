//! Which route takes a request, and what it makes of it.

use crate::backend::Backend;
use crate::support::{Gateway, Setup};

/// Routes of each kind over three back ends: `a`, `b`, and `c`.
fn routed() -> (Gateway, Vec<Backend>) {
    let backends: Vec<Backend> = ["a", "b", "c"].into_iter().map(Backend::start).collect();
    let mut setup = Setup::new();
    for backend in &backends {
        setup = setup.endpoints(&backend.name, vec![crate::support::endpoint(backend.http, "")]);
    }
    let routes = [
        "name = \"exact-host\"\nhost = \"shop.example\"\npool = \"a\"",
        "name = \"wide\"\nhost = \"*.example\"\npool = \"b\"",
        "name = \"wide-but-longer\"\nhost = \"*.shop.example\"\npool = \"c\"",
        "name = \"exact\"\npath = \"/exact\"\npool = \"a\"",
        "name = \"method\"\npath_prefix = \"/method\"\nmethods = [\"POST\", \"PUT\"]\npool = \"a\"",
        "name = \"header\"\npath_prefix = \"/header\"\nmatch = [{ header = \"X-Kind\", value = \"beta\" }]\npool = \"a\"",
        "name = \"header-regex\"\npath_prefix = \"/header\"\nmatch = [{ header = \"X-Kind\", regex = \"v[0-9]+\" }]\npool = \"b\"",
        "name = \"cookie\"\npath_prefix = \"/cookie\"\nmatch = [{ cookie = \"kind\", value = \"beta\" }]\npool = \"a\"",
        "name = \"query\"\npath_prefix = \"/query\"\nmatch = [{ query = \"kind\", value = \"beta\" }]\npool = \"a\"",
        "name = \"absent\"\npath_prefix = \"/query\"\nmatch = [{ query = \"kind\", absent = true }]\npool = \"b\"",
        "name = \"regex\"\npath_regex = \"/item/[0-9]+\"\npool = \"a\"",
        "name = \"prefix\"\npath_prefix = \"/prefix\"\npool = \"a\"",
        "name = \"rest\"\npath_prefix = \"/\"\npool = \"c\"",
    ];
    for route in routes {
        setup = setup.route(route);
    }
    (setup.start(), backends)
}

#[test]
fn a_request_goes_where_host_path_method_header_cookie_and_query_say() {
    let (gateway, _backends) = routed();
    let cases: &[(&str, &[&str], &str)] = &[
        ("/", &["-H", "Host: shop.example"], "a"),
        ("/", &["-H", "Host: SHOP.example:8080"], "a"),
        ("/", &["-H", "Host: news.example"], "b"),
        ("/", &["-H", "Host: eu.shop.example"], "c"),
        ("/exact", &[], "a"),
        ("/exact/", &[], "c"),
        ("/exact?x=1", &[], "a"),
        ("/method", &["-X", "POST"], "a"),
        ("/method", &["-X", "PUT"], "a"),
        ("/method", &[], "c"),
        ("/header", &["-H", "X-Kind: beta"], "a"),
        ("/header", &["-H", "x-kind: v12"], "b"),
        ("/header", &["-H", "X-Kind: v12x"], "c"),
        ("/header", &[], "c"),
        ("/cookie", &["-b", "other=1; kind=beta"], "a"),
        ("/cookie", &["-b", "unkind=beta"], "c"),
        ("/query?a=1&kind=beta", &[], "a"),
        ("/query?kind=alpha", &[], "c"),
        ("/query", &[], "b"),
        ("/item/42", &[], "a"),
        ("/item/x", &[], "c"),
        ("/item/42/more", &[], "c"),
        ("/prefix", &[], "a"),
        ("/prefix/below", &[], "a"),
        ("/prefixed", &[], "c"),
        ("/other", &[], "c"),
    ];
    for (path, arguments, wanted) in cases {
        let answer = gateway.curl(path, arguments);
        assert_eq!((answer.status, answer.instance()), (200, *wanted), "{path} {arguments:?}");
    }
    let by_route = |route: &str| gateway.requests_with(&format!("route=\"{route}\""));
    assert_eq!((by_route("exact-host"), by_route("regex"), by_route("cookie")), (2.0, 1.0, 1.0));
}

#[test]
fn what_no_route_takes_is_a_404_with_its_reason() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends).route("host = \"shop.example\"\npool = \"web\"").start();
    gateway.curl("/", &[]).assert_refused(404, "no_route");
    assert_eq!(gateway.failures("no_route"), 1.0);
    assert_eq!(backends[0].requests(), 0);
}

#[test]
fn a_path_is_rewritten_by_prefix_by_expression_or_whole_and_the_query_stays() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route("path_prefix = \"/api\"\npool = \"web\"\nrewrite = { prefix = \"/v2\" }")
        .route("path_prefix = \"/whole\"\npool = \"web\"\nrewrite = { path = \"/one\" }")
        .route("path_prefix = \"/user\"\npool = \"web\"\nrewrite = { regex = \"^/user/([0-9]+)/(.*)$\", replacement = \"/$2/of/$1\" }")
        .route("path_prefix = \"/host\"\npool = \"web\"\nset_host = \"inner.example:81\"")
        .start();
    let target = |path: &str| gateway.curl(path, &[]).echo().text("target").to_owned();
    assert_eq!(target("/api/a%2Fb?x=1&y"), "/v2/a%2Fb?x=1&y");
    assert_eq!(target("/api"), "/v2");
    assert_eq!(target("/whole/x?q"), "/one?q");
    assert_eq!(target("/user/42/orders?z=1"), "/orders/of/42?z=1");
    assert_eq!(gateway.curl("/host", &[]).echo().text("host"), "inner.example:81");
}

#[test]
fn a_redirect_is_answered_at_once_with_its_place() {
    let gateway = Setup::new()
        .route("name = \"scheme\"\nhost = \"shop.example\"\nredirect = { status = 301, scheme = \"https\" }")
        .route("name = \"moved\"\npath_prefix = \"/old\"\nredirect = { status = 308, host = \"new.example\", prefix = \"/new\" }")
        .start();
    let moved = |answer: crate::curl::Answer| (answer.status, answer.field("location").unwrap_or_default().to_owned());
    let answer = gateway.curl_host("shop.example:8080", "/a?b=1", &[]);
    assert_eq!(moved(answer), (301, "https://shop.example/a?b=1".to_owned()));
    assert_eq!(moved(gateway.curl("/old/x?y", &[])), (308, "http://new.example/new/x?y".to_owned()));
}

#[test]
fn a_fixed_answer_needs_no_pool() {
    let gateway = Setup::new()
        .route("name = \"ok\"\npath = \"/ok\"\nrespond = { body = \"{}\", content_type = \"application/json\" }")
        .route("name = \"gone\"\npath = \"/gone\"\nrespond = { status = 410, body = \"moved away\" }")
        .start();
    let ok = gateway.curl("/ok", &[]);
    assert_eq!((ok.status, &*ok.text(), ok.field("content-type")), (200, "{}", Some("application/json")));
    let gone = gateway.curl("/gone", &[]);
    assert_eq!((gone.status, &*gone.text()), (410, "moved away"));
    assert_eq!(gateway.failures("route"), 1.0);
    let head = gateway.curl("/ok", &["-I"]);
    assert_eq!((head.exit, head.status, head.body.len()), (0, 200, 0));
}

#[test]
fn fields_of_request_and_answer_are_set_added_and_removed() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route(
            "pool = \"web\"\n\
             request_headers = { remove = [\"X-Secret\"], set = { X-Set = \"ours\" }, add = { X-Add = \"more\" } }\n\
             response_headers = { remove = [\"Content-Type\"], set = { Strict-Transport-Security = \"max-age=1\" }, add = { Set-Cookie = \"c=3\" } }",
        )
        .start();
    let answer = gateway.curl("/", &["-H", "X-Secret: s", "-H", "X-Set: theirs", "-H", "X-Add: some"]);
    let echo = answer.echo();
    assert!(echo.header("X-Secret").is_empty());
    assert_eq!(echo.header("X-Set"), ["ours"]);
    assert_eq!(echo.header("X-Add"), ["some", "more"]);
    assert_eq!((answer.field("content-type"), answer.field("strict-transport-security")), (None, Some("max-age=1")));
    assert_eq!(gateway.curl("/cookies", &[]).fields("set-cookie"), ["a=1; Path=/", "b=2; Path=/", "c=3"]);
}

#[test]
fn a_browser_of_an_allowed_origin_may_ask_and_one_of_another_may_not() {
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .route(
            "pool = \"web\"\ncors = { allow_origins = [\"https://*.shop.example\"], allow_methods = [\"GET\", \"PUT\"], \
             allow_credentials = true, max_age_seconds = 60 }",
        )
        .start();
    let preflight = |origin: &str| {
        let origin = format!("Origin: {origin}");
        gateway.curl("/", &["-X", "OPTIONS", "-H", &origin, "-H", "Access-Control-Request-Method: PUT"])
    };
    let allowed = preflight("https://eu.shop.example");
    assert_eq!(allowed.field("access-control-allow-origin"), Some("https://eu.shop.example"));
    assert!(allowed.field("access-control-allow-methods").is_some_and(|methods| methods.contains("PUT")));
    assert_eq!(allowed.field("access-control-max-age"), Some("60"));
    assert_eq!(preflight("https://evil.example").field("access-control-allow-origin"), None);
    assert_eq!(backends[0].requests(), 0, "preflights are answered by the gateway");
    let simple = gateway.curl("/", &["-H", "Origin: https://eu.shop.example"]);
    assert_eq!(simple.field("access-control-allow-origin"), Some("https://eu.shop.example"));
    assert_eq!(simple.field("access-control-allow-credentials"), Some("true"));
    assert!(simple.fields("vary").iter().any(|vary| vary.eq_ignore_ascii_case("origin")));
}
