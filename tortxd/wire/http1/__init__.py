"""HTTP/1.1 heads and bodies, without I/O (RFC 9112).

Readers are fed bytes as they come, and each is used for one message. What clients send is read
strictly, since whoever reads it differently could be smuggled past; what destinations send is read
as leniently as browsers and curl do where there is one way only to understand it, because the
client gets framing of ours in any case.
"""

from tortxd.wire.http1.bodies import (
    OF_REQUEST,
    OF_RESPONSE,
    BodyReader,
    ChunkedBody,
    CloseBody,
    LengthBody,
)
from tortxd.wire.http1.heads import (
    MAX_FIELDS,
    MAX_HEAD,
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD,
    Headers,
    HeaderSection,
    RequestHead,
    ResponseHead,
    connection_options,
)
from tortxd.wire.http1.requests import RequestReader
from tortxd.wire.http1.responses import MAX_INTERIM, ResponseReader
from tortxd.wire.http1.sections import NO_BODY, known_head
from tortxd.wire.http1.writing import CONTINUE, LAST_CHUNK, chunk, field_lines, head_bytes

__all__ = [
    "CONTINUE",
    "LAST_CHUNK",
    "MAX_FIELDS",
    "MAX_HEAD",
    "MAX_INTERIM",
    "MAX_RESPONSE_FIELDS",
    "MAX_RESPONSE_HEAD",
    "NO_BODY",
    "OF_REQUEST",
    "OF_RESPONSE",
    "BodyReader",
    "ChunkedBody",
    "CloseBody",
    "HeaderSection",
    "Headers",
    "LengthBody",
    "RequestHead",
    "RequestReader",
    "ResponseHead",
    "ResponseReader",
    "chunk",
    "connection_options",
    "field_lines",
    "head_bytes",
    "known_head",
]
