"""The error tree against the contract's table."""

from __future__ import annotations

import pytest

from tortxd import errors
from tortxd.errors import TortxdError, kinds
from tortxd.gateway.answers import error_answer

TABLE = {
    400: {"bad_request", "bad_url"},
    401: {"unauthorized"},
    403: {
        "forbidden_origin",
        "forbidden_host",
        "target_forbidden",
        "redirect_forbidden",
        "onion_auth_required",
    },
    404: {"not_found"},
    405: {"method_not_allowed"},
    413: {"too_large"},
    408: {"request_timeout"},
    500: {"internal"},
    501: {"not_implemented"},
    502: {
        "connect_failed",
        "connect_refused",
        "resolve_failed",
        "exit_policy",
        "onion_unreachable",
        "origin_reset",
        "bad_response",
        "tls_failed",
    },
    503: {"tor_not_ready", "tor_down", "overloaded", "exit_unavailable"},
    504: {"tor_timeout", "origin_timeout"},
}


def test_every_code_of_the_contract_has_its_kind_and_status() -> None:
    found: dict[int, set[str]] = {}
    for code, kind in kinds().items():
        found.setdefault(kind.status, set()).add(code)
    assert found == TABLE


@pytest.mark.parametrize("kind", kinds().values(), ids=lambda kind: kind.__name__)
def test_an_error_is_a_sentence_and_an_answer(kind: type[TortxdError]) -> None:
    error = kind()
    assert str(error).endswith(".")
    assert kind.__doc__
    answer = error_answer(error)
    headers = dict(answer.headers)
    assert answer.status == kind.status
    assert headers[b"Tortxd-Error"].decode() == kind.code
    assert headers[b"Proxy-Status"].startswith(b"tortxd; error=")
    assert error.as_json()["retryable"] is kind.retryable


def test_what_differs_is_said_in_the_error_itself() -> None:
    error = errors.TooLarge("Too long.", status=414, retryable=True, retry_after=3)
    assert (error.status, error.retryable, error.retry_after) == (414, True, 3)
    assert errors.TooLarge().status == 413
    ready = errors.TorNotReady(details={"bootstrap": {"progress": 5}})
    assert ready.as_json()["bootstrap"] == {"progress": 5}
    assert dict(error_answer(ready).headers)[b"Retry-After"] == b"5"
