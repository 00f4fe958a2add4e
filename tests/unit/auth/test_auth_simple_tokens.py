"""Simple tokens: assigned at an index, renewed by use, gone with their user, their time, or authentication."""

from __future__ import annotations

import pytest

from balsad.auth import Identity
from balsad.auth.simple_tokens import SimpleTokens

PREFIX = "abcdefghijklmnop"


def make_tokens(ttl_s: float = 300.0) -> SimpleTokens:
    tokens = SimpleTokens(ttl_s)
    tokens.enable()
    return tokens


def assign(tokens: SimpleTokens, user: str, index: int, now: float = 0.0) -> str:
    return tokens.assign(user, 5, prefix=PREFIX, index=index, now=now, unix_now=0.0)


def identify(tokens: SimpleTokens, token: str, now: float = 0.0) -> Identity | None:
    return tokens.identify(token, 9, now=now, unix_now=0.0)


def test_a_token_names_its_user_at_todays_revision() -> None:
    tokens = make_tokens()

    token = assign(tokens, "u", 7)

    assert token == "abcdefghijklmnop.7"
    assert identify(tokens, token) == Identity("u", 9)


def test_use_gives_a_token_its_whole_time_again() -> None:
    tokens = make_tokens(ttl_s=10.0)
    used, unused = assign(tokens, "u", 1), assign(tokens, "u", 2)

    assert identify(tokens, used, now=8.0) is not None

    assert identify(tokens, unused, now=10.5) is None
    assert identify(tokens, used, now=17.0) is not None
    assert identify(tokens, used, now=28.0) is None


def test_what_nobody_shows_any_more_is_forgotten() -> None:
    tokens = make_tokens(ttl_s=10.0)
    for index in range(100):
        assign(tokens, "u", index, now=0.0)

    assign(tokens, "u", 100, now=10.5)

    assert len(tokens) == 1


def test_a_ttl_of_zero_means_the_usual_five_minutes() -> None:
    """etcd tokenSimple.enable."""
    tokens = make_tokens(ttl_s=0)
    token = assign(tokens, "u", 1)

    assert identify(tokens, token, now=299.0) is not None
    assert identify(tokens, token, now=600.0) is None


def test_invalidating_a_user_leaves_the_others() -> None:
    tokens = make_tokens()
    first, second, other = assign(tokens, "u", 1), assign(tokens, "u", 2), assign(tokens, "v", 3)

    tokens.invalidate_user("u")

    assert identify(tokens, first) is identify(tokens, second) is None
    assert identify(tokens, other) == Identity("v", 9)


def test_disabling_forgets_all_and_gives_out_none_that_count() -> None:
    tokens = make_tokens()
    before = assign(tokens, "u", 1)

    tokens.disable()
    meanwhile = assign(tokens, "u", 2)
    tokens.enable()

    assert identify(tokens, before) is identify(tokens, meanwhile) is None


@pytest.mark.parametrize(
    ("token", "index"),
    [
        ("x.17", 17),
        (".17", 17),
        ("x.0017", 17),
        ("x.18446744073709551615", 18446744073709551615),
        ("x.18446744073709551616", 0),
        ("x." + "9" * 5000, 0),
        ("x." + "0" * 5000 + "8", 8),
        ("x.+7", 0),
        ("x.7 ", 0),
        ("x.1.7", 0),
        ("x.", 0),
        ("x", 0),
        ("", 0),
        ("x.٧", 0),
    ],
)
def test_the_index_a_token_waits_for(token: str, index: int) -> None:
    """etcd isValidSimpleToken: two parts, the second what strconv.ParseUint reads."""
    tokens = make_tokens()

    assert tokens.index_of(token) == index
    assert identify(tokens, token) is None


def test_a_prefix_is_sixteen_letters_drawn_by_the_caller() -> None:
    drawn = iter([0, 25, 26, 51] * 4)

    prefix = SimpleTokens().new_prefix(lambda stop: next(drawn))

    assert prefix == "azAZ" * 4
