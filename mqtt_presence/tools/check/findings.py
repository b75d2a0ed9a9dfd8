"""What a check has found, and what that means for whoever asked. Pure."""

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from msgspec import Struct

KINDS = ("mosquitto", "embedded", "emqx", "rabbitmq", "ejabberd", "nats", "aedes", "hivemq", "other")


class Broker(NamedTuple):
    """Which broker it is."""

    kind: str
    """One of `KINDS`."""
    version: str = ""
    how: str = ""
    """How it was recognised."""


class Verdict(Enum):
    """How good or bad a finding is."""

    PASS = "pass"  # noqa: S105, no password
    NOTE = "note"
    """Neither: it could not be told, was not tried, or does not matter."""
    WARN = "warn"
    """Presence works, with a limit that one should know."""
    FAIL = "fail"
    """Something is lost, or somebody may do what nobody should."""


class Finding(Struct, frozen=True, kw_only=True):
    """The outcome of one probe."""

    name: str
    verdict: Verdict
    evidence: str
    """What was seen."""
    consequence: str = ""
    """What it leads to; empty: nothing."""
    remedy: str = ""
    """What to do about it."""


def passed(name: str, evidence: str) -> Finding:
    """Make a finding that is as it should be."""
    return Finding(name=name, verdict=Verdict.PASS, evidence=evidence)


def note(name: str, evidence: str, consequence: str = "", remedy: str = "") -> Finding:
    """Make a finding that is neither good nor bad."""
    return Finding(name=name, verdict=Verdict.NOTE, evidence=evidence, consequence=consequence, remedy=remedy)


def warned(name: str, evidence: str, consequence: str, remedy: str = "") -> Finding:
    """Make a finding of a limit."""
    return Finding(name=name, verdict=Verdict.WARN, evidence=evidence, consequence=consequence, remedy=remedy)


def failed(name: str, evidence: str, consequence: str, remedy: str = "") -> Finding:
    """Make a finding of a fault."""
    return Finding(name=name, verdict=Verdict.FAIL, evidence=evidence, consequence=consequence, remedy=remedy)


def any_failed(findings: Iterable[Finding]) -> bool:
    """Tell whether one of them is a fault."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)
