"""Parameters and cursors of the API."""

import pytest

from mqtt_presence.web.parameters import (
    LIMIT,
    MAX_LIMIT,
    ParameterError,
    Parameters,
    client_cursor,
    name_cursor,
    pair_cursor,
    require_user,
)

NAMES = frozenset({"after", "before", "limit", "from", "open", "q", "user"})
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


def given(**values: str) -> Parameters:
    return Parameters(list(values.items()), NAMES)


@pytest.mark.parametrize("user", HOSTILE)
@pytest.mark.parametrize("number", [1, (1 << 63) - 1])
def test_cursors_are_read_as_written(user: str, number: int) -> None:
    """A cursor needs no encoding in a URL."""
    assert given(after=name_cursor(user)).after_name("after") == user
    assert given(after=client_cursor(user, "a.b", number)).after_client("after") == (user, "a.b", number)
    assert given(after=client_cursor("a.b", user, number)).after_client("after") == ("a.b", user, number)
    assert given(before=pair_cursor(1_700_000_000_000, number)).after_pair("before") == (
        1_700_000_000_000,
        number,
    )
    assert client_cursor(user, user, number).replace("-", "").replace("_", "").replace(".", "").isalnum()


@pytest.mark.parametrize(
    "text",
    ["", ".", "1", "1.", ".1", "-1.2", "1.2.3", "1.x", "é", "////", "+", "1.99999999999999999999", "1" * 16 + ".1",
     "1.9223372036854775808", "٣.٣.٣", "1.YQ", "1.YQ.", "1..YQ", "1.YQ.YQ.YQ", name_cursor("a/b"), name_cursor("a\0b"), "1.YQ." + name_cursor("a+b"), f"1.{name_cursor('a+b')}.YQ", "gA"],
)  # fmt: skip
def test_other_texts_than_cursors_are_refused(text: str) -> None:
    """Cursors are part of database queries."""
    with pytest.raises(ParameterError, match="after must be the value of next in the answer before"):
        given(after=text).after_client("after")
    if text not in {"1", "gA"}:  # a name's cursor has no number
        with pytest.raises(ParameterError, match="after must be the value of next"):
            given(after=text).after_pair("after")
    with pytest.raises(ParameterError, match="after must be the value of next"):
        given(after=text + ".").after_name("after")


@pytest.mark.parametrize("text", ["0", "-1", "501", "1e2", " 1", "", "٣", "9999999", "1.0"])
def test_limit_is_a_number_within_bounds(text: str) -> None:
    with pytest.raises(ParameterError, match=f"limit=.* must be 1 to {MAX_LIMIT}"):
        given(limit=text).limit()
    assert given().limit() == LIMIT
    assert given(limit="500").limit() == 500


@pytest.mark.parametrize(
    "text", ["", "now", "2026-11-24", "2026-11-24T21:47:00", "1700000000000", "1969-01-01T00:00:00Z"]
)
def test_times_have_an_offset(text: str) -> None:
    with pytest.raises(ParameterError, match=r"from=.* must be a time like"):
        Parameters([("from", text)], NAMES).time("from")
    assert Parameters([("from", "1970-01-01T01:00:01.5+01:00")], NAMES).time("from") == 1500
    assert given().time("from") is None


def test_unknown_and_repeated_parameters_are_refused() -> None:
    """A misspelt parameter would be ignored silently otherwise."""
    with pytest.raises(ParameterError, match="'limt' is no parameter of this resource; after, "):
        Parameters([("limt", "1")], NAMES)
    with pytest.raises(ParameterError, match="twice"):
        Parameters([("limit", "1"), ("limit", "2")], NAMES)


def test_flags_names_and_texts() -> None:
    assert given(open="false").flag("open", default=True) is False
    assert given().flag("open", default=True) is True
    with pytest.raises(ParameterError, match="open='yes' must be true or false"):
        given(open="yes").flag("open", default=True)
    for user in HOSTILE:
        assert require_user(user) == given(user=user).name("user") == user
    for wrong in ("", "a/b", "+", "#", "a\nb", "x" * 129, "\ud800"):
        with pytest.raises(ParameterError, match="a user is 1 to 128 characters"):
            given(user=wrong).name("user")
    assert given(q="a/b+").text("q") == "a/b+"
    for wrong in ("", "x" * 129, "a\0b"):
        with pytest.raises(ParameterError, match="q must be 1 to 128"):
            given(q=wrong).text("q")
