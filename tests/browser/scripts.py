"""What pages do that tests of more than one thing open, as JavaScript."""

from __future__ import annotations

WEBSOCKET = """new Promise(done => {
    const socket = new WebSocket(a[0]), got = [];
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { socket.send(a[1]); socket.send(new Uint8Array([0, 255, 10])); };
    socket.onmessage = ({data}) => {
        got.push(typeof data === "string" ? data : Array.from(new Uint8Array(data)));
        if (got.length === 2) socket.close(1000);
    };
    socket.onclose = event => done([got, event.code, event.wasClean]);
})"""

SUBMIT = """new Promise(done => {
    const shown = document.querySelector("pre");
    const look = new MutationObserver(() => { look.disconnect(); done(shown.textContent); });
    look.observe(shown, {childList: true});
    document.querySelector("input").value = a[0];
    document.querySelector("form").requestSubmit();
})"""
"""Has the example page fetch a URL, and gives what it shows."""
