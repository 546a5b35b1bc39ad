//! The console: files that are built into the program.

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use rust_embed::RustEmbed;

use crate::error::{Error, Kind};

/// Debug builds read the folder when they run.
#[derive(RustEmbed)]
#[folder = "../../console/dist"]
struct Console;

const INDEX: &str = "index.html";
/// Names below it contain a hash of the content.
const HASHED: &str = "assets/";

const PLACEHOLDER: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Yinglong</title>\
<h1>Yinglong</h1><p>This server was built without its console. Build it with <code>npm ci &amp;&amp; npm run build</code> \
in the folder <code>console</code>, then build the server again. The API below <code>/api/v1</code> works.</p>";

/// A file of the console; for addresses that belong to its pages, the page that holds them all.
pub(crate) async fn serve(method: Method, uri: Uri) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Error::new(Kind::UnknownRoute, "there is no such route").into_response();
    }
    let path = uri.path().trim_start_matches('/');
    if let Some(file) = Console::get(path).filter(|_| !path.is_empty()) {
        let keep = if path.starts_with(HASHED) {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        return answer(file.data.into_owned(), file.metadata.mimetype(), keep);
    }
    let is_file = path.starts_with(HASHED)
        || path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.contains('.'));
    if is_file {
        return Error::new(Kind::UnknownRoute, "there is no such file").into_response();
    }
    match Console::get(INDEX) {
        Some(index) => answer(
            index.data.into_owned(),
            "text/html; charset=utf-8",
            "no-cache",
        ),
        None => {
            let body = PLACEHOLDER.as_bytes().to_vec();
            answer(body, "text/html; charset=utf-8", "no-store")
        }
    }
}

fn answer(body: Vec<u8>, kind: &str, keep: &'static str) -> Response {
    let kind =
        HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    (StatusCode::OK, headers, body).into_response()
}
