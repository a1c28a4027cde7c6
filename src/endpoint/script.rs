//! The script that a page loads from the endpoint.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};
use http_body_util::Full;
use smol_str::SmolStr;

use crate::program::Program;

/// Writes the script for the programs' parameters. It posts to the URL that it was loaded from.
///
/// It asks the document by the getters of its prototype: an `<img name="referrer">` in the page, which a visitor
/// may have written, would stand in the place of `document.referrer`.
pub(super) fn of(programs: &[Program]) -> Bytes {
    let names: Vec<_> = programs
        .iter()
        .flat_map(Program::landing_params)
        .map(SmolStr::as_str)
        .collect();
    // Names have no character that would end a string.
    let names = serde_json::json!(names);
    let script = format!(
        "(()=>{{\
         const d=document,\
         of=n=>Object.getOwnPropertyDescriptor(Document.prototype,n)?.get.call(d),\
         s=of('currentScript'),q=new URLSearchParams(location.search);\
         if(self!==top||!s||!{names}.some(n=>q.has(n)))return;\
         const send=()=>{{\
         const n=performance.getEntriesByType('navigation')[0];\
         q.set('_path',location.pathname);q.set('_referrer',of('referrer'));\
         n&&q.set('_navigation',n.type);\
         fetch(s.src,{{method:'POST',body:q,credentials:'include',keepalive:true}}).catch(()=>{{}})\
         }};\
         of('prerendering')\
         ?EventTarget.prototype.addEventListener.call(d,'prerenderingchange',send,{{once:true}})\
         :send()\
         }})()"
    );
    script.into()
}

pub(super) fn response(script: &Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(script.clone()));
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_static("text/javascript; charset=utf-8");
    headers.insert(CONTENT_TYPE, content_type);
    let cacheable = HeaderValue::from_static("public, max-age=3600");
    headers.insert(CACHE_CONTROL, cacheable);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small() {
        let script = of(&[Program::default()]);
        assert!(script.len() < 1024, "{} bytes", script.len());
    }
}
