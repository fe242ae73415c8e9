//! The four gateways, each with one thread for requests, the same four servers behind it, and no access log.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::Options;
use crate::backend::Backend;
use crate::bed::certificates::Authority;
use crate::bed::process::Process;
use crate::bed::{Tidegate, WorkDir, free_port, require_gateway, require_gateways, wait_until};
use crate::services::ADDRESSES;
use crate::simulator::Simulator;
use crate::subject::Subject;
use crate::system::Pinning;

/// What nginx does to a request's fields: no more than it must.
const BARE: &str = "proxy_set_header Connection \"\";";
/// The fields that Tidegate sends.
const TELLING: &str = "proxy_set_header Connection \"\"; proxy_set_header Host $http_host; proxy_set_header Via \"1.1 nginx\"; \
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme; \
    proxy_set_header X-Forwarded-Host $http_host;";
const START: Duration = Duration::from_secs(20);

/// All that run.
pub(crate) struct Field {
    subjects: Vec<Subject>,
    /// nginx, telling the back end as much of the client as Tidegate does.
    telling: Option<Subject>,
    processes: Vec<Process>,
    _tidegate: Option<Tidegate>,
    files: WorkDir,
}

/// The ports of one of them.
struct Ports {
    plain: u16,
    tls: u16,
    http2: u16,
}

// === impl Field ===

impl Field {
    pub(crate) fn start(options: &Options, pinning: Pinning, backend: &Backend, simulator: &Simulator) -> Self {
        require_gateway();
        let authority = Authority::new();
        let certified = authority.issue("bench");
        let files = WorkDir::new("peers");
        let both = [&certified.certificate, &certified.key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
        let pem = files.write("both.pem", both);
        let (certificate, key) = (certified.certificate.display().to_string(), certified.key.display().to_string());
        let directory = files.path().display().to_string();
        let mut field = Self { subjects: Vec::new(), telling: None, processes: Vec::new(), _tidegate: None, files };
        if options.includes("nginx") {
            let ports = Ports::new();
            let text = nginx(&ports, backend, &certificate, &key, &directory);
            let subject = field.start_nginx("nginx", text, &ports, pinning);
            field.subjects.push(subject);
            let ports = Ports::new();
            let text = nginx(&ports, backend, &certificate, &key, &directory).replace(BARE, TELLING);
            field.telling = Some(field.start_nginx("nginx, telling", text, &ports, pinning));
        }
        if options.includes("haproxy") {
            let ports = Ports::new();
            let config = field.files.write("haproxy.cfg", haproxy(&ports, backend, &pem.display().to_string()));
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(config);
            let subject = field.start_peer("haproxy", &command, &ports, pinning);
            field.subjects.push(subject);
        }
        if options.includes("envoy") {
            let ports = Ports::new();
            let config = field.files.write("envoy.yaml", envoy(&ports, backend, &certificate, &key));
            let program = std::fs::read_to_string(require_gateways().home("envoy").join("program")).unwrap();
            let mut command = Command::new(program.trim());
            command.arg("-c").arg(config).args(["--disable-hot-restart", "--concurrency", "1", "-l", "error"]);
            let subject = field.start_peer("envoy", &command, &ports, pinning);
            field.subjects.push(subject);
        }
        if options.includes("tidegate") {
            let ports = Ports::new();
            let kubeconfig = field.files.write("kubeconfig", simulator.kubeconfig());
            let mut tidegate =
                Tidegate::spawn(&tidegate(&ports, &kubeconfig.display().to_string(), &certificate, &key));
            tidegate.wait_listening();
            wait_until(START, "tidegate", || tidegate.get("/readyz/gateway").status == 200);
            pinning.place(tidegate.pid(), false);
            field.subjects.push(ports.subject("tidegate", tidegate.pid()));
            field._tidegate = Some(tidegate);
        }
        field
    }

    pub(crate) fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Present where nginx is.
    pub(crate) fn telling(&self) -> Option<Subject> {
        self.telling
    }

    fn start_nginx(&mut self, name: &'static str, config: String, ports: &Ports, pinning: Pinning) -> Subject {
        let config = self.files.write(&format!("{}.conf", name.replace(", ", "-")), config);
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.files.path()).arg("-c").arg(config).args(["-e", "stderr"]);
        self.start_peer(name, &command, ports, pinning)
    }

    fn start_peer(&mut self, name: &'static str, command: &Command, ports: &Ports, pinning: Pinning) -> Subject {
        let mut process = Process::start(command, self.files.path(), name);
        wait_until(START, name, || {
            assert!(
                process.exited().is_none(),
                "{name} ended: {}{}",
                process.stderr(),
                String::from_utf8_lossy(&process.stdout())
            );
            [ports.plain, ports.tls, ports.http2].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        pinning.place(process.id(), false);
        let subject = ports.subject(name, process.id());
        self.processes.push(process);
        subject
    }
}

// === impl Ports ===

impl Ports {
    fn new() -> Self {
        Self { plain: free_port(), tls: free_port(), http2: free_port() }
    }

    fn subject(&self, name: &'static str, pid: u32) -> Subject {
        let [plain, tls, http2] =
            [self.plain, self.tls, self.http2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        Subject { name, pid, plain, tls, http2 }
    }
}

/// The versions of the peers.
pub(crate) fn versions() -> String {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().expect("the program starts");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text)
            .lines()
            .find(|line| line.contains("version"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let envoy = std::fs::read_to_string(require_gateways().home("envoy").join("program")).unwrap();
    let [nginx, haproxy, envoy] = [("nginx", "-v"), ("haproxy", "-v"), (envoy.trim(), "--version")]
        .map(|(it, argument)| first_line(it, argument));
    let envoy = envoy.rsplit("version: ").next().unwrap_or_default().split('/').nth(1).unwrap_or_default().to_owned();
    let haproxy = haproxy.split(" 20").next().unwrap_or_default().to_owned();
    let nginx = nginx.trim_start_matches("nginx version: ");
    format!("{nginx}; {haproxy}; Envoy {envoy}")
}

fn nginx(ports: &Ports, backend: &Backend, certificate: &str, key: &str, directory: &str) -> String {
    let servers = |port: u16| ADDRESSES.iter().map(|address| format!("server {address}:{port}; ")).collect::<String>();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {directory}/{name};\n"))
        .collect();
    // A body of 16 KiB stays in memory, as it does elsewhere.
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/nginx-{}.pid;\nworker_rlimit_nofile 60000;\n\
         events {{ worker_connections 30000; }}\nhttp {{\naccess_log off;\nerror_log stderr crit;\n{temporary}\
         keepalive_requests 1000000000;\nkeepalive_timeout 600s;\ntcp_nodelay on;\nclient_body_buffer_size 64k;\n\
         upstream web {{ {}keepalive 256; keepalive_requests 1000000000; }}\n\
         upstream rpc {{ {}keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{\nlisten 127.0.0.1:{} reuseport;\nlisten 127.0.0.1:{} ssl;\nlisten 127.0.0.1:{} http2;\n\
         ssl_certificate {certificate};\nssl_certificate_key {key};\n\
         location / {{ proxy_pass http://web; proxy_http_version 1.1; {BARE} }}\n\
         location /bench.Echo/ {{ grpc_pass grpc://rpc; }}\n}}\n}}\n",
        ports.plain,
        servers(backend.http),
        servers(backend.grpc),
        ports.plain,
        ports.tls,
        ports.http2
    )
}

fn haproxy(ports: &Ports, backend: &Backend, pem: &str) -> String {
    let servers = |port: u16, further: &str| {
        let line = |(at, address)| format!("  server s{at} {address}:{port}{further}\n");
        ADDRESSES.iter().enumerate().map(line).collect::<String>()
    };
    format!(
        "global\n  nbthread 1\n  maxconn 12000\n  no strict-limits\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 60s\n  timeout http-keep-alive 600s\n  http-reuse always\n\
         frontend f\n  bind 127.0.0.1:{}\n  bind 127.0.0.1:{} ssl crt {pem} alpn http/1.1\n  bind 127.0.0.1:{} proto h2\n\
         \x20 use_backend rpc if {{ path_beg /bench.Echo/ }}\n  default_backend web\n\
         backend web\n  balance roundrobin\n{}backend rpc\n  balance roundrobin\n{}",
        ports.plain,
        ports.tls,
        ports.http2,
        servers(backend.http, ""),
        servers(backend.grpc, " proto h2")
    )
}

fn envoy(ports: &Ports, backend: &Backend, certificate: &str, key: &str) -> String {
    let endpoints = |port: u16| {
        ADDRESSES.iter().fold(String::new(), |mut text, address| {
            let _ = writeln!(
                text,
                "      - endpoint: {{ address: {{ socket_address: {{ address: {address}, port_value: {port} }} }} }}"
            );
            text
        })
    };
    let listener = |name: &str, port: u16, tls: &str| {
        format!(
            "  - name: {name}\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    filter_chains:\n    - filters:\n\
             \x20     - name: envoy.filters.network.http_connection_manager\n        typed_config:\n\
             \x20         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n\
             \x20         stat_prefix: {name}\n          generate_request_id: false\n          http_filters:\n          - name: envoy.filters.http.router\n\
             \x20           typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true }}\n\
             \x20         route_config:\n            virtual_hosts:\n            - name: all\n              domains: [\"*\"]\n              routes:\n\
             \x20             - match: {{ prefix: /bench.Echo/ }}\n                route: {{ cluster: rpc }}\n\
             \x20             - match: {{ prefix: / }}\n                route: {{ cluster: web }}\n{tls}"
        )
    };
    let tls = format!(
        "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n\
         \x20         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n\
         \x20         common_tls_context:\n            tls_certificates:\n            - certificate_chain: {{ filename: {certificate} }}\n\
         \x20             private_key: {{ filename: {key} }}\n"
    );
    let cluster = |name: &str, port: u16, further: &str| {
        format!(
            "  - name: {name}\n    connect_timeout: 5s\n    type: STATIC\n    circuit_breakers: {{ thresholds: [{{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }}] }}\n{further}\
             \x20   load_assignment:\n      cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n{}",
            endpoints(port).replace("      - endpoint", "        - endpoint")
        )
    };
    let http2 = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n\
        \x20       \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n\
        \x20       explicit_http_config: { http2_protocol_options: {} }\n";
    format!(
        "static_resources:\n  listeners:\n{}{}{}  clusters:\n{}{}",
        listener("plain", ports.plain, ""),
        listener("tls", ports.tls, &tls),
        listener("http2", ports.http2, ""),
        cluster("web", backend.http, ""),
        cluster("rpc", backend.grpc, http2)
    )
}

fn tidegate(ports: &Ports, kubeconfig: &str, certificate: &str, key: &str) -> String {
    format!(
        "[admin]\nlisten = \"127.0.0.1:{}\"\n[discovery]\nlisten = \"127.0.0.1:{}\"\n\
         [[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"\nkubeconfig = \"{kubeconfig}\"\ntraffic_policies = false\n\
         [gateway]\nthreads = 1\npin_threads = false\nidle_timeout_seconds = 600\n\
         [[gateway.listener]]\nlisten = \"127.0.0.1:{}\"\n\
         [[gateway.listener]]\nlisten = \"127.0.0.1:{}\"\ntls = {{ certificate = \"{certificate}\", key = \"{key}\" }}\n\
         [[gateway.listener]]\nlisten = \"127.0.0.1:{}\"\n\
         [[gateway.route]]\nname = \"rpc\"\npath_prefix = \"/bench.Echo/\"\npool = \"east/bench/rpc/http\"\n\
         [[gateway.route]]\nname = \"web\"\npool = \"east/bench/web/http\"\n",
        free_port(),
        free_port(),
        ports.plain,
        ports.tls,
        ports.http2
    )
}
