//! The real cluster that tests run against.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use yinglong_store_elastic::Options;

/// Node of this test run. It ends when its standard input does, that is with this process.
struct Node {
    url: String,
    _process: Option<(Child, ChildStdin)>,
}

fn start() -> Result<Node, String> {
    if let Ok(url) = std::env::var("YINGLONG_TEST_ELASTIC_URL") {
        return Ok(Node {
            url,
            _process: None,
        });
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../script/opensearch");
    let mut child = Command::new(script)
        .args(std::env::var("YINGLONG_TEST_OPENSEARCH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let stdin = child.stdin.take().ok_or("no standard input")?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let mut url = String::new();
    BufReader::new(stdout)
        .read_line(&mut url)
        .map_err(|error| error.to_string())?;
    let url = url.trim().to_owned();
    if url.is_empty() {
        let said = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        // Only what the machine lacks is no fault.
        assert_eq!(
            said.status.code(),
            Some(3),
            "OpenSearch did not start: {text}"
        );
        return Err(text.lines().last().unwrap_or_default().to_owned());
    }
    Ok(Node {
        url,
        _process: Some((child, stdin)),
    })
}

/// Address of the cluster; `None`, said aloud, where there can be none.
pub(crate) fn url(test: &str) -> Option<&'static str> {
    static NODE: OnceLock<Result<Node, String>> = OnceLock::new();
    match NODE.get_or_init(start) {
        Ok(node) => Some(&node.url),
        Err(why) => {
            println!("SKIPPED {test}: no OpenSearch: {why}");
            None
        }
    }
}

/// Options for indexes that no other test has.
pub(crate) fn fresh(url: &str) -> Options {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut options = Options::new(url, "node-1").unwrap();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    options.index_prefix = format!("t{}-{number}-monitor", std::process::id());
    options
}
