"""What may pass: targets, headers, redirects, callers.

Everything here is pure: bytes in, values or one of ours errors out; no reactor, no sockets, no
clock. It runs for every request, so what is likely to come again (the same target, Host, or origin)
is remembered in small bounded caches.
"""
