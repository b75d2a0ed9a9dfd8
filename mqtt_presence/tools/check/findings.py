"""The findings of a check: the broker, another bridge, and a verdict for each probe. Pure."""

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple

from msgspec import Struct


class Broker(NamedTuple):
    """The identity of a broker."""

    kind: str
    """One of `known_brokers.kinds`."""
    version: str = ""
    evidence: str = ""
    """The observation that identified it."""


class OtherBridge(Enum):
    """The state of a bridge that uses the checked broker."""

    AT_WORK = auto()
    AWAY = auto()
    """Its state is offline; its session may wait for it."""
    NONE = auto()
    UNKNOWN = auto()
    """No user of the check may read the state of a bridge."""


class Verdict(Enum):
    """The verdict on a finding."""

    PASS = "pass"  # noqa: S105, no password
    NOTE = "note"
    """Neither good nor bad: inconclusive, not tried, or without importance."""
    WARN = "warn"
    """Presence works, with a limit that operators should know."""
    FAIL = "fail"
    """Messages are lost, or a client has a right that it must not have."""


class Finding(Struct, frozen=True, kw_only=True):
    """The outcome of one probe."""

    name: str
    verdict: Verdict
    evidence: str
    """The observation."""
    consequence: str = ""
    """Its effect on presence; empty if there is none."""
    remedy: str = ""
    """Advice for the operator."""


def passed(name: str, evidence: str) -> Finding:
    """Make a finding of a good result."""
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
    """Return whether a finding is a fault."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)
