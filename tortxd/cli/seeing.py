"""Commands that show what is: ``status``, ``circuits``, ``streams``, ``verify``, ``config``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tortxd.cli import words
from tortxd.cli.asking import Asker
from tortxd.cli.failures import CommandFailed, NotReady
from tortxd.cli.main import Settings, command
from tortxd.cli.output import Output


def _show(settings: Settings, path: str, show: Callable[[Output, Any], None]) -> None:
    """What a route says, of each gateway."""
    for asker in settings.each():
        value = asker.get(path)
        if settings.as_json:
            settings.output.json(value)
        else:
            show(settings.output, value)


@command("status")
def status(settings: Settings) -> None:
    """Say whether requests are served, how far Tor is, and what is wrong.

    It exits with 4 while Tor is not ready.
    """
    not_ready = False
    for asker in settings.each():
        answer = asker.ask("GET", "/health", as_client=True)
        if answer.status not in (200, 503) or answer.error_code is not None:
            answer.check()
        health = answer.json()
        not_ready = not_ready or answer.status != 200
        if settings.as_json:
            settings.output.json(health)
        else:
            _status(settings.output, asker, health)
    if not_ready:
        raise NotReady("Tor is not ready.")


def _status(output: Output, asker: Asker, health: words.Json) -> None:
    colour = {"ok": "green", "degraded": "yellow"}.get(health["status"], "red")
    output.line(output.bold(words.health(health), colour))
    for reason in words.reasons(health):
        output.line(reason)
    facts = {"since": f"{words.age(health['age'])} ago"} if "age" in health else {}
    facts |= {
        "gateway": asker.gateway.url,
        "SOCKS": health["tor"] or "not open",
        "network": health["network"],
        "version": health["version"],
    }
    output.facts(facts | _counts(asker))


def _counts(asker: Asker) -> dict[str, str]:
    """What operators see beside it; nothing where there is no token."""
    if asker.token is None:
        return {}
    try:
        requests, circuits = asker.get("/requests"), asker.get("/circuits")
    except CommandFailed:
        return {}
    failed: dict[str, int] = {}
    ended = sum(one["count"] for one in requests["counts"])
    for one in requests["counts"]:
        if one["outcome"] not in ("ok", "client_gone"):
            failed[one["outcome"]] = failed.get(one["outcome"], 0) + one["count"]
    failures = ", ".join(f"{count} {code}" for code, count in sorted(failed.items()))
    return {
        "circuits": str(len(circuits["circuits"])),
        "requests": f"{ended}, and {requests['underWay']} under way",
        "failed": failures or "none",
        **_last_failure(requests["failures"]),
    }


def _last_failure(failures: list[dict[str, Any]]) -> dict[str, str]:
    if not failures:
        return {}
    last = failures[0]
    told = f"{words.age(last['age'])} ago, at fault: {words.FAULTS[last['fault']]}. {last['error']}"
    return {"last one": told}


@command("circuits")
def circuits(settings: Settings) -> None:
    """List the circuits that are open: guard - middle - exit, with countries.

    KEY is the same for circuits of one isolation key, and tells nothing else of it.
    """

    def show(output: Output, value: words.Json) -> None:
        rows = [
            (
                one["id"],
                one["state"],
                words.age(one["age"]),
                "" if one["buildTime"] is None else words.age(one["buildTime"]),
                words.path(one["path"]),
                str(len(one["streams"])),
                one["isolation"] or "-",
                one["purpose"] or "-",
            )
            for one in value["circuits"]
        ]
        header = ("ID", "STATE", "AGE", "BUILT IN", "PATH", "STREAMS", "KEY", "PURPOSE")
        output.table(header, rows, "No circuit is open.")

    _show(settings, "/circuits", show)


@command("streams")
def streams(settings: Settings) -> None:
    """List the streams that are open, with their destinations and how the requests came."""

    def show(output: Output, value: words.Json) -> None:
        rows = [
            (
                one["id"],
                one["state"],
                one["circuit"] or "-",
                words.way(one),
                one["target"],
                one["isolation"] or "-",
                words.age(one["age"]),
            )
            for one in value["streams"]
        ]
        header = ("ID", "STATE", "CIRCUIT", "CAME BY", "TARGET", "KEY", "AGE")
        output.table(header, rows, "No stream is open.")

    _show(settings, "/streams", show)


@command("verify")
def verify(settings: Settings) -> None:
    """Ask whether requests go through Tor, by the control port's word and a check service's."""
    value = settings.asker().get("/verify-tor", as_client=True)
    if settings.as_json:
        settings.output.json(value)
    else:
        _verdict(settings.output, value)
    if not value["isTor"]:
        raise CommandFailed("Requests do not go through Tor, by what is known.")


def _verdict(output: Output, value: words.Json) -> None:
    verdict = value["verdict"]
    sentence, colour = {
        "verified": ("Requests go through Tor: the control port and the check agree.", "green"),
        "unverified": ("The check service did not answer.", "yellow"),
        "contradicted": ("The check service says that this was not Tor.", "red"),
    }[verdict]
    output.line(output.bold(sentence, colour))
    evidence = value["evidence"]
    circuit = evidence["controlPort"]["circuit"]
    facts = {
        "exit address": value["exitIp"] or "not known",
        "circuit": "none was seen" if circuit is None else _circuit(circuit),
        "check": evidence["checkService"]["error"] or "answered",
        "SOCKS": value["proxyUrl"] or "not open",
    }
    output.facts(facts)


def _circuit(circuit: words.Json) -> str:
    return f"{circuit['id']}: {words.path(circuit['path'])}"


@command("config")
def config(settings: Settings) -> None:
    """List the options in force, and where each was set; secrets are left out."""

    def show(output: Output, value: words.Json) -> None:
        rows = [
            (one["option"], one["set"] or one["source"], words.value(one["value"]))
            for one in value["options"]
        ]
        output.table(("OPTION", "SET BY", "VALUE"), rows, "There are no options.")
        if value["endpoints"]:
            output.line(f"It listens on {' and '.join(map(words.plain, value['endpoints']))}.")

    _show(settings, "/config", show)
