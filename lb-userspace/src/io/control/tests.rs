//! Real sockets in a folder of the test's own.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::json;

use super::*;

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("naru-control-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a daemon that answers every request with the caller's name while `client` runs on a thread.
fn with_daemon<T: Send + 'static>(folder: &Folder, client: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
    let socket = folder.socket();
    runtime().block_on(async {
        let mut control = Control::bind(&folder.0).unwrap();
        let mut client = tokio::task::spawn_blocking(move || client(socket));
        loop {
            tokio::select! {
                result = &mut client => return result.unwrap(),
                call = control.call() => {
                    let reply = match call.request {
                        Request::Reload {} => Reply::Refused("line 3: no".to_owned()),
                        Request::Flows { .. } => Reply::Done("flow ".repeat(1_000_000).into()),
                        _ => Reply::Done(json!({ "caller": call.caller })),
                    };
                    call.reply(reply);
                }
            }
        }
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE * 3)).unwrap();
    // The daemon may have enough of it before the end.
    let _ = stream.write_all(bytes);
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply);
    reply
}

#[test]
fn a_request_is_answered_and_its_caller_known() {
    let folder = Folder::new("answered");
    let done = with_daemon(&folder, |socket| ask(&socket, &Request::Status {}).unwrap());
    assert_eq!(
        done,
        json!({ "caller": user_name(rustix::process::geteuid().as_raw()) })
    );
    assert_eq!(user_name(0), "root");
    assert_eq!(user_name(4_000_000_000), "uid 4000000000");
}

#[test]
fn a_refusal_reaches_the_client_in_the_daemons_words() {
    let folder = Folder::new("refused");
    let error = with_daemon(&folder, |socket| ask(&socket, &Request::Reload {}).unwrap_err());
    assert!(matches!(error, AskError::Refused(_)));
    assert_eq!(error.to_string(), "line 3: no");
}

#[test]
fn only_the_owner_may_connect_and_the_file_goes_with_the_daemon() {
    let folder = Folder::new("owner");
    let mode = with_daemon(&folder, |socket| fs::metadata(socket).unwrap().mode());
    assert_eq!(mode & 0o777, 0o600);
    let error = ask(&folder.socket(), &Request::Status {}).unwrap_err();
    let expected = format!("no daemon answers at {}: No such file", folder.socket().display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(error.to_string().ends_with("start it with `naru run`"), "{error}");
}

#[test]
fn nonsense_is_refused_and_too_much_of_it_cut_off() {
    let folder = Folder::new("nonsense");
    let replies = with_daemon(&folder, |socket| {
        [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x00\xff\xfe\n",
            b"{\"request\":\"status\",\"please\":true}\n",
            b"{\"request\":\"weight\",\"target\":{\"service\":\"web\",\"backend\":\"a\"},\"weight\":70000}\n",
            &vec![b'x'; 300 * 1024],
        ]
        .map(|bytes| raw(&socket, bytes))
    });
    for reply in &replies[..4] {
        assert!(reply.starts_with("{\"refused\":\"not a request: "), "{reply:?}");
    }
    // The connection is cut while the client still writes, so the reply may be lost with it.
    assert!(
        replies[4].is_empty() || replies[4].contains("longer than 65536 bytes"),
        "{:?}",
        replies[4]
    );
}

#[test]
fn a_stopped_daemon_is_called_so() {
    let folder = Folder::new("stopped");
    let _stopped = std::os::unix::net::UnixListener::bind(folder.socket()).unwrap();
    let patience = Duration::from_secs(1);
    let error = protocol::ask_within(patience, &folder.socket(), &Request::Status {}).unwrap_err();
    let expected = format!(
        "no answer from {} within 1 s; the daemon hangs or is stopped",
        folder.socket().display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_cannot_be_locked_is_named() {
    let folder = Folder::new("lock");
    fs::create_dir(folder.0.join(LOCK)).unwrap();
    let error = runtime()
        .block_on(async { Control::bind(&folder.0).err() })
        .unwrap()
        .to_string();
    assert!(error.contains(&folder.0.join(LOCK).display().to_string()), "{error}");
}

#[test]
fn stalled_clients_are_cut_off_and_harm_nobody() {
    let folder = Folder::new("stalled");
    with_daemon(&folder, |socket| {
        let mut stalled: Vec<_> = (0..CONNECTIONS - 1)
            .map(|_| UnixStream::connect(&socket).unwrap())
            .collect();
        stalled[0].write_all(b"{\"request\":").unwrap();
        let started = Instant::now();
        ask(&socket, &Request::Status {}).unwrap();
        assert!(
            started.elapsed() < PATIENCE,
            "a stalled client delayed another: {:?}",
            started.elapsed()
        );
        stalled[0].set_read_timeout(Some(PATIENCE * 3)).unwrap();
        assert_eq!(stalled[0].read(&mut [0]).unwrap(), 0, "half a request is cut off");
    });
}

/// Neither those that say nothing nor those that do not read keep anybody else from an answer.
#[test]
fn a_thousand_idle_clients_keep_nobody_waiting() {
    let folder = Folder::new("idle");
    with_daemon(&folder, |socket| {
        let _idle: Vec<_> = (0..1000)
            .map(|number| {
                let mut client = UnixStream::connect(&socket).unwrap();
                if number == 500 {
                    client
                        .write_all(b"{\"request\":\"flows\",\"service\":null,\"backend\":null}\n")
                        .unwrap();
                }
                client
            })
            .collect();
        let started = Instant::now();
        ask(&socket, &Request::Status {}).unwrap();
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    });
}

#[test]
fn a_client_that_never_takes_its_reply_harms_nobody() {
    let folder = Folder::new("deaf");
    with_daemon(&folder, |socket| {
        let deaf = UnixStream::connect(&socket).unwrap();
        (&deaf)
            .write_all(b"{\"request\":\"flows\",\"service\":null,\"backend\":null}\n")
            .unwrap();
        ask(&socket, &Request::Status {}).unwrap();
    });
}

#[test]
fn what_a_dead_daemon_left_is_replaced_and_a_live_one_refused() {
    let folder = Folder::new("stale");
    drop(std::os::unix::net::UnixListener::bind(folder.socket()).unwrap());
    fs::write(folder.0.join(LOCK), "12345\n").unwrap();
    assert!(
        ask(&folder.socket(), &Request::Status {}).is_err(),
        "the socket is stale"
    );
    let path = folder.0.clone();
    let refusal = with_daemon(&folder, move |socket| {
        ask(&socket, &Request::Status {}).unwrap();
        let refusal = runtime()
            .block_on(async { Control::bind(&path).err() })
            .unwrap()
            .to_string();
        ask(&socket, &Request::Status {}).unwrap();
        refusal
    });
    assert!(
        refusal.contains(&format!("(process {}) already runs", std::process::id())),
        "{refusal}"
    );
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let folder = Folder::new("many");
    with_daemon(&folder, |socket| {
        let clients: Vec<_> = (0..CONNECTIONS * 2)
            .map(|_| {
                let socket = socket.clone();
                thread::spawn(move || ask(&socket, &Request::Status {}).unwrap())
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
    });
}
