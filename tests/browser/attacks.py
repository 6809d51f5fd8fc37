"""The ways in which a page can make a browser ask somebody else for something, as JavaScript.

``attack(urls)`` tries them all at once, each on the URL that has its name, and gives by name what
the page has learnt of the answer: ``""`` if nothing.
"""

from __future__ import annotations

_JAVASCRIPT = r"""
const shown = (tag, attributes, learn = () => "loaded") => new Promise(done => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.onload = element.onloadeddata = () => done(learn(element));
    element.onerror = () => done("");
    document.body.append(element);
});
const unheard = (tag, attributes) => {  // the page is told nothing of what becomes of it
    document.body.append(Object.assign(document.createElement(tag), attributes));
    return "";
};
const inside = frame => {
    try { return frame.contentWindow.document.documentElement.outerHTML; } catch { return ""; }
};
const form = (url, attributes) => {
    const target = "frame" + Math.random();
    const frame = Object.assign(document.createElement("iframe"), {name: target});
    const sent = document.createElement("form");
    Object.assign(sent, {action: url, target, ...attributes});
    // A form that is sent by GET puts its own query in place of the URL's.
    for (const [name, value] of new URL(url).searchParams)
        sent.append(Object.assign(document.createElement("input"), {name, value}));
    document.body.append(frame, sent);
    const loaded = new Promise(done => { frame.onload = () => done(inside(frame)); });
    sent.submit();
    return loaded;
};
const text = response => response.text();
const opaque = {mode: "no-cors"};
const attacks = {
    "fetch": url => fetch(url).then(text),
    "fetch-credentials": url => fetch(url, {credentials: "include"}).then(text),
    "fetch-no-cors": url => fetch(url, {mode: "no-cors"}).then(text),
    "fetch-silent": url => fetch(url, {...opaque, referrerPolicy: "no-referrer"}).then(text),
    "fetch-head": url => fetch(url, {method: "HEAD"}).then(response => "status " + response.status),
    "fetch-keepalive": url => fetch(url, {method: "POST", keepalive: true}).then(text),
    "fetch-post": url => fetch(url, {method: "POST", body: "canary"}).then(text),
    "fetch-post-no-cors": url => fetch(url, {...opaque, method: "POST", body: "c"}).then(text),
    "fetch-json": url => fetch(url, {method: "POST", body: "{}",
        headers: {"Content-Type": "application/json", "Tor-Stream-Isolation": "c"}}).then(text),
    "fetch-delete": url => fetch(url, {method: "DELETE"}).then(text),
    "xhr": url => new Promise(done => {
        const request = new XMLHttpRequest();
        request.onloadend = () => done(request.responseText);
        request.open("GET", url);
        request.send();
    }),
    "xhr-post": url => new Promise(done => {
        const request = new XMLHttpRequest();
        request.onloadend = () => done(request.responseText);
        request.open("POST", url);
        request.send("canary");
    }),
    "websocket": url => new Promise(done => {
        const socket = new WebSocket(url.replace("http", "ws"));
        socket.onopen = () => done("open");
        socket.onerror = () => done("");
    }),
    "eventsource": url => new Promise(done => {
        const source = new EventSource(url);
        source.onopen = source.onmessage = () => done("open");
        source.onerror = () => { source.close(); done(""); };
    }),
    "ping": url => {
        const link = Object.assign(document.createElement("a"), {href: "#here", ping: url});
        document.body.append(link);
        link.click();
        return "";
    },
    "beacon": url => { navigator.sendBeacon(url, "canary"); return ""; },
    "image": src => shown("img", {src}),
    "image-cors": src => shown("img", {crossOrigin: "anonymous", src}),
    "script": src => shown("script", {src}),
    "script-cors": src => shown("script", {crossOrigin: "anonymous", src}),
    "module": url => import(url).then(() => "loaded"),
    "worker": url => new Promise(done => {
        const code = `let learnt = "loaded";
            try { importScripts("${url}") } catch { learnt = "" }
            postMessage(learnt)`;
        const worker = new Worker(URL.createObjectURL(new Blob([code])));
        worker.onmessage = message => done(message.data);
        worker.onerror = () => done("");
    }),
    "stylesheet": href => shown("link", {rel: "stylesheet", href}),
    "font": url => new FontFace("canary", `url("${url}")`).load().then(() => "loaded"),
    "background": url => unheard("div", {style: `background: url("${url}")`, textContent: "x"}),
    "prefetch": href => unheard("link", {rel: "prefetch", href}),
    "preload": href => unheard("link", {rel: "preload", as: "fetch", href}),
    "iframe": src => shown("iframe", {src}, inside),
    "object": data => shown("object", {data}, inside),
    "embed": src => unheard("embed", {src}),
    "video": src => shown("video", {src}),
    "audio": src => shown("audio", {src}),
    "form-get": url => form(url, {method: "get"}),
    "form-post": url => form(url, {method: "post"}),
    "form-text": url => form(url, {method: "post", enctype: "text/plain"}),
    "form-upload": url => form(url, {method: "post", enctype: "multipart/form-data"}),
};
const patience = new Promise(done => setTimeout(done, 10000, "no answer"));
const attack = async urls => {
    const learnt = await Promise.all(Object.entries(urls).map(([name, url]) => Promise.race([
        patience, new Promise(done => done(attacks[name](url))).catch(() => "")])));
    return Object.fromEntries(Object.keys(urls).map((name, i) => [name, learnt[i]]));
};
"""

PAGE = f"""<!DOCTYPE html><html><title>attacks</title><body><script>{_JAVASCRIPT}</script>"""

SPECULATION = """void document.head.append(Object.assign(document.createElement("script"), {
    type: "speculationrules",
    textContent: JSON.stringify({[a[1]]: [{urls: [a[0]], eagerness: "immediate"}]})}))"""
"""A page has the browser fetch ahead of time what the user might open next."""

NAMES = tuple(line.split('"')[1] for line in _JAVASCRIPT.splitlines() if line.startswith('    "'))
"""What the ways are called."""
