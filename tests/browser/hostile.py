"""Pages that try all that a page can to run script and to reach the network by themselves.

What they reach is a canary: ``{c}`` is its URL, ``{p}`` that of a second one, for preconnects, and
``{g}`` the gateway's. The markup is HTML and XML at once, so that one page serves for both.
"""

from __future__ import annotations

_SCRIPT = """
document.title = "owned";
new Image().src = "{c}/inline-script";
try {{ document.cookie = "{cookie}-script=1"; localStorage.setItem("canary", "1"); }} catch (e) {{}}
fetch("{g}/health?{cookie}=fetch", {{mode: "no-cors"}});
fetch("{g}/identity/new?{cookie}=post", {{mode: "no-cors", method: "POST"}});
fetch("/proxy?{cookie}=relative", {{mode: "no-cors"}});
navigator.serviceWorker.register("/proxy?{cookie}=worker");
"""

_BODY = """<?xml-stylesheet type="text/css" href="{c}/xml-stylesheet"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>hostile page</title>
<link rel="preconnect" href="{p}" /><link rel="dns-prefetch" href="{p}" />
<link rel="prefetch" href="{c}/prefetch" /><link rel="prerender" href="{c}/prerender" />
<link rel="preload" as="image" href="{c}/preload" />
<link rel="modulepreload" href="{c}/modulepreload" />
<link rel="stylesheet" href="{c}/stylesheet" /><link rel="icon" href="{c}/icon" />
<link rel="manifest" href="{c}/manifest" />
<style>@import "{c}/import"; body {{ background: url("{c}/background") }}</style>
<script>{script}</script><script src="{c}/script"></script>
<script type="module" src="{c}/module"></script>
<script type="speculationrules">{{"prefetch": [{{"source": "list", "eagerness": "immediate",
"urls": ["{c}/speculation", "{g}/health?{cookie}=speculation"]}}]}}</script>
</head><body onload="new Image().src = '{c}/onload'">
<p>Read me.</p>
<img src="{c}/image" /><img src="{g}/health?{cookie}=image" /><img src="/ip?{cookie}=relative" />
<svg xmlns="http://www.w3.org/2000/svg"><script>new Image().src = "{c}/svg-script"</script>
<image href="{c}/svg-image" /></svg>
<iframe src="{c}/iframe"></iframe><iframe src="{g}/ip?{cookie}=frame"></iframe>
<iframe src="javascript:top.document.title='owned'"></iframe>
<object data="{c}/object"></object><embed src="{c}/embed" />
<video src="{c}/video" poster="{c}/poster"></video><audio src="{c}/audio" preload="auto"></audio>
<input type="image" src="{c}/input" />
<iframe name="hole"></iframe><form action="{c}/form" target="hole" method="post">
<input name="canary" /></form><script>document.forms[0].submit()</script>
</body></html>
"""

LIVE = frozenset(
    {
        "prefetch",
        "preload",
        "modulepreload",
        "stylesheet",
        "import",
        "background",
        "inline-script",
        "script",
        "module",
        "onload",
        "image",
        "svg-script",
        "svg-image",
        "iframe",
        "object",
        "embed",
        "video",
        "poster",
        "audio",
        "input",
        "form",
        "link-header",
        "report",
    }
)
"""What a page that is live asks the canary for, at the least."""

_SVG = """<?xml-stylesheet type="text/css" href="{c}/xml-stylesheet"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink"
 width="9" height="9" onload="new Image().src = '{c}/onload'">
<title>hostile page</title><text>Read me.</text>
<script>{script}</script><script href="{c}/script" />
<style>@import "{c}/import"; svg {{ background: url("{c}/background") }}</style>
<image href="{c}/svg-image" /><image x:href="{c}/image" />
<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="{c}/iframe"></iframe>
</foreignObject></svg>
"""

SVG_LIVE = frozenset(
    {
        "xml-stylesheet",
        "onload",
        "inline-script",
        "script",
        "import",
        "background",
        "svg-image",
        "image",
        "iframe",
        "link-header",
        "report",
    }
)

_AWAY = """<!DOCTYPE html><html><head><title>hostile page</title>
<meta http-equiv="refresh" content="0;url={c}/meta-refresh" /></head><body>Read me.</body></html>
"""

HEADERS = (
    'Link: <{c}/link-header>; rel="preload"; as="image", <{p}>; rel="preconnect"',
    "Set-Cookie: {cookie}=1; Path=/",
    "Service-Worker-Allowed: /",
    "Access-Control-Allow-Origin: *",
    "X-DNS-Prefetch-Control: on",
    "Content-Security-Policy-Report-Only: default-src 'none'; report-uri {c}/report",
    'Reporting-Endpoints: default="{c}/reports"',
    'Report-To: {{"group":"default","max_age":600,"endpoints":[{{"url":"{c}/reports"}}]}}',
    'NEL: {{"report_to":"default","max_age":600}}',
    'Speculation-Rules: "{c}/rules"',
    "SourceMap: {c}/map",
    "Accept-CH: Device-Memory, Sec-CH-UA-Model",
)
REFRESH = "Refresh: 0;url={c}/refresh-header"

PAGES = {
    "page": (_BODY, HEADERS, LIVE),
    "svg": (_SVG, HEADERS, SVG_LIVE),
    "meta-refresh": (_AWAY, (), frozenset({"meta-refresh"})),
    "refresh-header": (
        "<!DOCTYPE html><title>hostile page</title>Read me.",
        (REFRESH,),
        frozenset({"refresh-header"}),
    ),
    # Parts of a message, which browsers take apart.
    "index": (
        "300: {c}/\n200: filename content-length last-modified file-type\n"
        '201: "<script src={c}/script></script>" 1 x FILE\n201: a 1 x DIRECTORY\n',
        HEADERS,
        frozenset(),
    ),
    "playlist": (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{c}/segment.ts\n#EXT-X-ENDLIST\n",
        HEADERS,
        frozenset(),
    ),
    "pdf": (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R"
        "/OpenAction<</S/URI/URI({c}/action)>>>>endobj\n"
        "2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        "3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
        "trailer<</Root 1 0 R>>\n%%EOF\n",
        HEADERS,
        frozenset(),
    ),
    "parts": ("--x\r\nContent-Type: text/html\r\n\r\n" + _BODY + "\r\n--x--\r\n", HEADERS, LIVE),
}
"""The body, the headers, and what it asks the canary for when it is live."""


def hostile(
    page: str, *, canary: str, preconnect: str, gateway: str, cookie: str
) -> tuple[str, list[str], frozenset[str]]:
    """A page's body and headers, and what it asks the canary for when it is live."""
    body, headers, live = PAGES[page]
    names = {"c": canary, "p": preconnect, "g": gateway, "cookie": cookie}
    names["script"] = _SCRIPT.format(**names)
    return body.format(**names), [header.format(**names) for header in headers], live
