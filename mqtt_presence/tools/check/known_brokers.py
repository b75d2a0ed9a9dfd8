"""The known brokers: the data of ``broker_config/<broker>/check.toml``, read for the checks.

A broker is one folder of ``broker_config/``. Its ``check.toml`` has three tables, each described by a class
here: ``signs`` identify the broker, ``remedies`` quote lines of the files beside it, and ``findings`` answer
probes that cannot be run. ``broker_config/generic.toml`` has the remedies for every other broker.
"""

import tomllib
from functools import cache
from typing import Literal

import msgspec
from msgspec import Struct

from mqtt_presence.tools.check.findings import Finding, Verdict
from mqtt_presence.tools.shipped_files import shipped_directory

OTHER = "other"
"""The kind of a broker without a folder."""

_FILE = "check.toml"

Refusal = Literal["mqtt-5", "qos-2", "slash", "blank"]
"""MQTT 5 itself; QoS 2, granted as QoS 1; client ids with a slash; topics with a blank."""


class Sign(Struct, frozen=True, forbid_unknown_fields=True):
    """Observations that identify a broker; all the conditions that are given must hold.

    Args:
        rank: signs of a lower rank are compared first, across all brokers.
        evidence: the reason that the report gives.
        topic: a retained message exists on this topic.
        payload: a regular expression for the whole payload there; the group ``version`` is the version.
        assigned_client_id: a regular expression for the client id that the broker assigns.
        refuses: requests that the broker refuses.
        accepts: requests that the broker accepts.
        connack: properties of its CONNACK in MQTT 5.

    """

    rank: int
    evidence: str
    topic: str = ""
    payload: str = ".*"
    assigned_client_id: str = ""
    refuses: tuple[Refusal, ...] = ()
    accepts: tuple[Refusal, ...] = ()
    connack: dict[str, int] = {}


class Remedy(Struct, frozen=True, forbid_unknown_fields=True):
    """Advice for a finding.

    Args:
        probes: the names of the probes.
        text: the advice in words.
        file: the shipped file with the right setting, in the same folder.
        line: a line of that file.

    """

    probes: tuple[str, ...]
    text: str
    file: str = ""
    line: str = ""


class KnownFinding(Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a probe that need not be run on this broker."""

    probe: str
    verdict: Verdict
    evidence: str
    consequence: str = ""


class KnownBroker(Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a ``check.toml``.

    Args:
        signs: observations that identify the broker.
        remedies: advice that quotes its files.
        findings: answers that are known in advance.
        refers_to_folder: whether a generic remedy adds a reference to the broker's folder.
        may_be_open: whether access without a password is only a warning.

    """

    signs: tuple[Sign, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    findings: tuple[KnownFinding, ...] = ()
    refers_to_folder: bool = True
    may_be_open: bool = False


@cache
def kinds() -> tuple[str, ...]:
    """Return the kinds of broker, `OTHER` last."""
    return (*sorted(path.parent.name for path in shipped_directory().glob(f"*/{_FILE}")), OTHER)


@cache
def known_broker(kind: str) -> KnownBroker:
    """Return the data of one of `kinds`."""
    return KnownBroker(refers_to_folder=False) if kind == OTHER else _read(f"{kind}/{_FILE}")


@cache
def generic_remedies() -> dict[str, str]:
    """Return the advice for an unknown broker by the name of the probe."""
    return {name: remedy.text for remedy in _read("generic.toml").remedies for name in remedy.probes}


def ranked_signs() -> list[tuple[str, Sign]]:
    """Return the signs of all brokers, each with the kind of its broker, in the order of comparison."""
    signs = [(kind, sign) for kind in kinds() for sign in known_broker(kind).signs]
    return sorted(signs, key=lambda of_kind: of_kind[1].rank)


def remedy_for(kind: str, probe: str) -> str:
    """Return the advice for a probe on a kind of broker; empty if there is none."""
    broker = known_broker(kind)
    remedy = next((remedy for remedy in broker.remedies if probe in remedy.probes), None)
    if remedy is None:
        text = generic_remedies().get(probe, "")
        return f"{text}; see broker_config/{kind}/" if text and broker.refers_to_folder else text
    if not remedy.file:
        return remedy.text
    return f"{remedy.text}: `{remedy.line.lstrip('#')}` (broker_config/{kind}/{remedy.file})"


def known_finding(kind: str, probe: str) -> Finding | None:
    """Return the finding of a probe that is known for a kind of broker; None if the probe must run."""
    for known in known_broker(kind).findings:
        if known.probe == probe:
            return Finding(
                name=probe, verdict=known.verdict, evidence=known.evidence, consequence=known.consequence
            )
    return None


def _read(name: str) -> KnownBroker:
    data = tomllib.loads((shipped_directory() / name).read_text("utf-8"))
    return msgspec.convert(data, KnownBroker)
