"""Parameters and cursors of the API."""

from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from mqtt_presence.store.pages import next_prefix
from mqtt_presence.web.api.connection_resources import ConnectionsQuery
from mqtt_presence.web.api.cursors import (
    after_client,
    after_name,
    after_pair,
    client_cursor,
    name_cursor,
    pair_cursor,
)
from mqtt_presence.web.api.parameters import LIMIT, MAX_LIMIT, ParameterError, User, explain, require_user
from mqtt_presence.web.api.user_resources import Names, UsersQuery

HOSTILE = [
    "<b>",
    "a b",
    "é",
    "x\uffff",  # which a database of 0.1.0 may have
    "..",
    ".",
    "%2F",
    "'; DROP TABLE users --",
    "\N{PILE OF POO}" * 128,
    "a&b=c",
    "100%_\\",
]


def refusal(kind: Any, **given: object) -> str:
    """Return how the API words the refusal of a query."""
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(given)
    errors = [error | {"loc": ("query", *error["loc"])} for error in caught.value.errors()]
    return explain(RequestValidationError(errors), ("after", "limit"))


@pytest.mark.parametrize("user", HOSTILE)
@pytest.mark.parametrize("number", [1, (1 << 63) - 1])
def test_cursors_are_read_as_written(user: str, number: int) -> None:
    """A cursor needs no encoding in a URL."""
    assert after_name("after", name_cursor(user)) == user
    assert after_client("after", client_cursor(user, "a.b", number)) == (user, "a.b", number)
    assert after_client("after", client_cursor("a.b", user, number)) == ("a.b", user, number)
    assert after_pair("before", pair_cursor(1_700_000_000_000, number)) == (1_700_000_000_000, number)
    assert client_cursor(user, user, number).replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert after_name("after", None) is after_client("after", None) is after_pair("after", None) is None


@pytest.mark.parametrize(
    "text",
    ["", ".", "1", "1.", ".1", "-1.2", "1.2.3", "1.x", "é", "////", "+", "1.99999999999999999999", "1" * 16 + ".1",
     "1.9223372036854775808", "٣.٣.٣", "1.YQ", "1.YQ.", "1..YQ", "1.YQ.YQ.YQ", name_cursor("a/b"), name_cursor("a\0b"), "1.YQ." + name_cursor("a+b"), f"1.{name_cursor('a+b')}.YQ", "gA"],
)  # fmt: skip
def test_other_texts_than_cursors_are_refused(text: str) -> None:
    """Cursors are part of database queries."""
    with pytest.raises(ParameterError, match="after must be the value of next in the answer before"):
        after_client("after", text)
    if text not in {"1", "gA"}:  # a name's cursor has no number
        with pytest.raises(ParameterError, match="after must be the value of next"):
            after_pair("after", text)
    with pytest.raises(ParameterError, match="after must be the value of next"):
        after_name("after", text + ".")


@pytest.mark.parametrize("text", ["0", "-1", "501", "1e2", " 1", "", "٣", "9999999", "1.0"])
def test_limit_is_a_number_within_bounds(text: str) -> None:
    """Other spellings of numbers are refused, too."""
    assert refusal(UsersQuery, limit=text) == f"limit={text!r} must be 1 to {MAX_LIMIT}"
    assert UsersQuery().limit == LIMIT
    assert UsersQuery.model_validate({"limit": "500"}).limit == 500


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-24", "2026-11-24T21:47:00", "1700000000000", "1969-01-01T00:00:00Z"]
)
def test_times_have_an_offset(text: str) -> None:
    """A time without one would depend on the server."""
    assert refusal(ConnectionsQuery, **{"from": text}).startswith(f"from={text!r} must be a time like")
    given = ConnectionsQuery.model_validate({"from": "1970-01-01T01:00:01.5+01:00"})
    assert (given.since, given.until) == (1500, None)


def test_unknown_parameters_are_refused() -> None:
    """A misspelt parameter would be ignored silently otherwise."""
    assert refusal(UsersQuery, limt="1") == "'limt' is no parameter of this resource; after, limit are"
    assert refusal(UsersQuery, state=["gone"]) == "state='gone' must be 'online', 'idle' or 'offline'"


def test_flags_names_and_texts() -> None:
    """Each kind of text has its rule."""
    assert ConnectionsQuery.model_validate({"open": "false"}).open is False
    assert ConnectionsQuery().open is True
    assert refusal(ConnectionsQuery, open="yes") == "open='yes' must be true or false"
    for user in HOSTILE:
        assert require_user(user) == TypeAdapter(User).validate_python(user) == user
    for wrong in ("", "a/b", "+", "#", "a\nb", "x" * 129, "\ud800"):
        with pytest.raises(ParameterError, match="a user is 1 to 128 characters"):
            require_user(wrong)
    assert refusal(ConnectionsQuery, user="a/b").startswith("a user is 1 to 128 characters")
    assert UsersQuery.model_validate({"q": "a/b+"}).q == "a/b+"
    for wrong in ("", "x" * 129, "a\0b"):
        assert "must be 1 to 128 characters" in refusal(UsersQuery, q=wrong)


def test_a_query_has_at_most_a_thousand_names() -> None:
    """And at least one."""
    assert len(Names(ids=["a"] * 1000).ids) == 1000
    for wrong in ([], ["a"] * 1001, [1], ["a/b"]):
        with pytest.raises(ValidationError):
            Names.model_validate({"ids": wrong})


@pytest.mark.parametrize("prefix", ["a", "pump-", "z\U0010ffff", "\ud7ff", "é", "a\U0010ffff\U0010ffff"])
def test_the_end_of_a_prefix_is_after_all_its_names(prefix: str) -> None:
    """In the order of code points, and no other text is between."""
    end = next_prefix(prefix)
    assert end is not None
    assert prefix + "\U0010ffff" * 5 < end
    assert not end.startswith(prefix)
    assert end.encode() > (prefix + "\U0010ffff" * 5).encode()
    assert next_prefix("\U0010ffff") is None
    assert next_prefix("") is None
