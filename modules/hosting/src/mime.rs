//! Pure: from the name of a file to its media type.
use http::HeaderValue;

/// The `Content-Type` of the file at `path`. Text is UTF-8: the web's apps are.
pub(crate) fn content_type(path: &str) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let usual = match extension {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json; charset=utf-8",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml; charset=utf-8",
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => return rare(extension),
    };
    HeaderValue::from_static(usual)
}

fn rare(extension: &str) -> HeaderValue {
    let lower = extension.to_ascii_lowercase();
    if lower != extension {
        return content_type(&format!(".{lower}"));
    }
    let media = mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream");
    if media.starts_with("text/") || media.ends_with("+json") || media == "application/xml" {
        return HeaderValue::from_str(&format!("{media}; charset=utf-8")).expect("media types are ASCII");
    }
    HeaderValue::from_static(media)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_what_browsers_need() {
        for (path, media) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.JS", "text/javascript; charset=utf-8"),
            ("m.mjs", "text/javascript; charset=utf-8"),
            ("app.wasm", "application/wasm"),
            ("data.json", "application/json; charset=utf-8"),
            ("feed.xml", "text/xml; charset=utf-8"),
            ("notes.md", "text/markdown; charset=utf-8"),
            ("film.mp4", "video/mp4"),
            ("font.woff", "application/font-woff"),
            ("README", "application/octet-stream"),
            ("x.unheard", "application/octet-stream"),
            ("a.b/c", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(path), media, "{path}");
        }
    }
}
