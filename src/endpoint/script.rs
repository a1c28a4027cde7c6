//! The script that a page loads from the endpoint.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};
use http_body_util::Full;
use smol_str::SmolStr;

use crate::program::Program;

/// Writes the script for the programs' parameters. It posts to the URL that it was loaded from: its own fields
/// first, so that a link's fields of the same names count for nothing, and behind them the page's query as it
/// stands, because encoding it anew would write a blank as `+`, which is another key.
///
/// It posts wherever a name in the query, decoded and without what mangled links have in front of it, is one of
/// the programs' parameters. These are more queries than the layer reads, and the endpoint decides.
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
         s=of('currentScript'),q=location.search,\
         is=n=>{names}.includes(n.replace(/^([?]|amp;)+/,''));\
         if(self!==top||!s||![...new URLSearchParams(q).keys()].some(is))return;\
         const send=()=>{{\
         const said=new URLSearchParams({{_path:location.pathname,_referrer:of('referrer'),\
         _navigation:performance.getEntriesByType('navigation')[0]?.type??''}});\
         fetch(s.src,{{method:'POST',body:said+'&'+q.slice(1),\
         headers:{{'content-type':'application/x-www-form-urlencoded'}},\
         credentials:'include',keepalive:true}}).catch(()=>{{}})\
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
