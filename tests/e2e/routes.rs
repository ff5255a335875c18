//! Processes on the web: what comes for a route is answered by its process, whatever happens to that meanwhile.
use std::{
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    journal::eventually,
    kube::{Home, Kube},
    team::{configure, python, script},
};

/// Answers with what it got, and who it is. A request that is under way when it is asked to end is answered.
const SERVER: &str = r#"
import http.server, json, os, signal, socketserver, sys, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  def do_GET(self):
    if self.path.startswith('/api/slow'): time.sleep(0.5)
    body = json.dumps({'pid': os.getpid(), 'path': self.path, 'headers': {k.lower(): v for k, v in self.headers.items()}}).encode()
    self.send_response(200)
    self.send_header('content-length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)
  def do_POST(self):
    body = self.rfile.read(int(self.headers['content-length']))
    self.send_response(200)
    self.send_header('content-length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)
  def log_message(self, *a): pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
  request_queue_size = 128
  daemon_threads = False
  block_on_close = True
time.sleep(0.2)
server = Server(('127.0.0.1', int(os.environ['PORT'])), Handler)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print('serves', flush=True)
server.serve_forever()
"#;

fn home(route: &str, more: &str) -> Home {
    let home = Home::new();
    configure(&home, &python("api", SERVER, &format!("route = \"{route}\"\n{more}")));
    home
}

fn ask(kube: &Kube<'_>, host: &str, path: &str, args: &[&str]) -> serde_json::Value {
    let answer = kube.curl(args, host, path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn a_route_leads_to_its_process() {
    let home = home("chat", "");
    let kube = home.start();
    let api = kube.until("api", "running");
    let url = api["url"].as_str().unwrap();
    assert!(url.starts_with("https://chat.localhost:") && url.ends_with('/'), "{url}");
    let forged = ["-H", "X-Forwarded-For: 6.6.6.6", "-H", "Forwarded: for=6.6.6.6", "-H", "X-Real-IP: 6.6.6.6"];
    let got = ask(&kube, "chat.localhost", "/some/path?and=query", &forged);
    assert_eq!((got["path"].as_str(), got["pid"].as_u64()), (Some("/some/path?and=query"), api["pid"].as_u64()));
    assert_eq!(got["headers"]["x-forwarded-for"], "127.0.0.1");
    assert_eq!(got["headers"]["x-forwarded-proto"], "https");
    assert!(!got.to_string().contains("6.6.6.6"), "{got:#}");
    kube.stop();
}

#[test]
fn a_path_of_an_app_leads_to_a_process_and_the_rest_to_the_app() {
    let home = home("shop/api", "");
    home.app("shop", &[("index.html", "the shop"), ("apix", "a file")]);
    let kube = home.start();
    kube.until("api", "running");
    assert_eq!(ask(&kube, "shop.localhost", "/api/items", &[])["path"], "/api/items");
    eventually("the app", || (kube.get("shop.localhost", "/").text() == "the shop").then_some(()));
    assert_eq!(kube.get("shop.localhost", "/apix").text(), "a file");
    kube.stop();
}

#[test]
fn strangers_are_told_nothing_and_the_team_is_told_why() {
    let home = home("chat", "");
    let kube = home.start();
    kube.until("api", "running");
    home.run(&["stop", "api"]).ok();
    let page = kube.get("chat.localhost", "/");
    assert_eq!(page.status, 503);
    // Who asks from the machine itself is of the team.
    assert!(page.text().contains("stopped"), "{}", page.text());
    home.run(&["start", "api"]).ok();
    assert_eq!(kube.get("chat.localhost", "/").status, 200);
    kube.stop();
}

#[test]
fn a_restart_under_load_loses_no_request() {
    restart_under_load("");
}

#[test]
fn with_one_port_for_all_instances_requests_wait() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    restart_under_load(&format!("port = {port}"));
}

fn restart_under_load(more: &str) {
    let home = home("chat", more);
    let kube = home.start();
    let first = kube.until("api", "running")["pid"].clone();
    let url = format!("https://localhost:{}/", kube.https());
    let load = Command::new("wrk")
        .args(["--threads", "1", "--connections", "8", "--duration", "8s", "--timeout", "15s"])
        .args(["-H", "Host: chat.localhost", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        home.run(&["restart", "api"]).ok();
    }
    let output = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("requests in"), "{said}");
    for trouble in ["Socket errors", "Non-2xx"] {
        assert!(!said.contains(trouble), "{said}\n{}", kube.journal);
    }
    assert_ne!(kube.until("api", "running")["pid"], first);
    kube.stop();
}

#[test]
fn a_new_instance_that_does_not_come_up_changes_nothing() {
    let home = home("chat", "start_timeout = \"2s\"");
    let kube = home.start();
    let first = kube.until("api", "running")["pid"].as_u64();
    configure(&home, &python("api", "import time\ntime.sleep(1000)", "route = \"chat\"\nstart_timeout = \"2s\""));
    home.run(&["reload"]).ok();
    home.run(&["restart", "api"]).complains(1, &["api", "not ready within 2 s"]);
    assert_eq!(ask(&kube, "chat.localhost", "/", &[])["pid"].as_u64(), first);
    kube.stop();
}

/// A server of WebSockets, which sends back what it gets.
const ECHO: &str = r#"
import { WebSocketServer } from "ws";
const server = new WebSocketServer({ host: "127.0.0.1", port: process.env.PORT });
server.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
server.on("listening", () => console.log("listens"));
"#;

/// Says something, something larger and goodbye, and how each was answered.
const TALK: &str = r#"
import WebSocket from "ws";
import "./localhost.js";
const large = Buffer.alloc(300_000, 7), got = [];
const socket = new WebSocket(process.argv[1]);
socket.on("open", () => { socket.send("hello"); socket.send(large); });
socket.on("message", (data, binary) => {
  got.push(binary ? data.equals(large) : data.toString());
  if (got.length === 2) socket.close(4321, "done");
});
socket.on("close", (code) => console.log(JSON.stringify([...got, code])));
"#;

#[test]
fn a_websocket_goes_through() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/e2e/node");
    let home = Home::new();
    // Not apart: what it needs of npm may be where nobody else can go.
    let how = format!("route = \"chat\"\ncwd = \"{folder}\"\nsandbox = \"off\"");
    let command = "command = [\"/usr/bin/env\", \"node\", \"--input-type=module\", \"-e\"";
    configure(&home, &format!("[processes.echo]\n{command}, '''{ECHO}''']\n{how}\n"));
    let kube = home.start();
    kube.until_it_wrote("echo", "listens");
    let mut client = Command::new("node");
    client.args(["--input-type=module", "-e", TALK, &format!("wss://chat.localhost:{}/", kube.https())]);
    let output = client.current_dir(folder).env("NODE_EXTRA_CA_CERTS", home.ca()).output().unwrap();
    let (said, trouble) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), r#"["hello",true,4321]"#, "{trouble}\n{}", kube.journal);
    kube.stop();
}

#[test]
fn a_program_speaks_http_2() {
    let home = Home::new();
    let server = "exec nghttpd --no-tls --address=127.0.0.1 --echo-upload --htdocs=/usr/share/common-licenses $PORT";
    // Not apart: it makes files in /tmp, where this KUBE's data is.
    configure(&home, &script("licenses", server, "route = \"licenses\"\nprotocol = \"h2c\"\nsandbox = \"off\""));
    let kube = home.start();
    kube.until("licenses", "running");
    let license = std::fs::read("/usr/share/common-licenses/GPL-3").unwrap();
    for version in ["--http1.1", "--http2"] {
        eventually("its file", || {
            let answer = kube.curl(&[version], "licenses.localhost", "/GPL-3");
            (answer.status == 200 && answer.body == license).then_some(())
        });
        let upload = [version, "--data-binary", "@/usr/share/common-licenses/GPL-3"];
        assert!(kube.curl(&upload, "licenses.localhost", "/").body == license);
    }
    kube.stop();
}
