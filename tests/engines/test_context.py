"""Trimming: what of a long thread is sent, and that the cut seldom moves."""

from __future__ import annotations

from itertools import pairwise

from assistant_manager.engines.base import TurnMessage
from assistant_manager.engines.context import count_tokens, fitted, message_tokens
from tests.engines.turns import say


def thread(length: int) -> list[TurnMessage]:
    return [
        say(f"message {number}", "user" if number % 2 else "assistant") for number in range(length)
    ]


def ten(message: TurnMessage) -> int:
    return 10


def test_a_thread_that_fits_is_sent_whole() -> None:
    assert fitted(thread(8), 100, ten) == thread(8)


def test_what_is_sent_is_always_the_newest_part_and_fits() -> None:
    for length in range(1, 120):
        kept = fitted(thread(length), 100, ten)
        assert kept == thread(length)[-len(kept) :]
        assert 10 * len(kept) <= 85


def test_the_cut_stays_where_it_is_while_the_thread_grows() -> None:
    firsts = [fitted(thread(length), 1000, ten)[0].text for length in range(1, 400)]
    moves = sum(before != after for before, after in pairwise(firsts))
    assert moves <= 400 / 25 + 1


def test_a_cut_never_moves_back() -> None:
    firsts = [
        400 - len(fitted(thread(400)[:length], 1000, ten)) - (400 - length)
        for length in range(1, 401)
    ]
    assert firsts == sorted(firsts)


def test_the_last_message_alone_may_fill_the_budget() -> None:
    sizes = {"message 0": 50, "message 1": 99}
    kept = fitted(thread(2), 100, lambda message: sizes[message.text])
    assert [message.text for message in kept] == ["message 1"]


def test_nothing_is_left_where_the_last_message_is_too_large() -> None:
    assert fitted(thread(5), 9, ten) == []
    assert fitted(thread(5), -1, ten) == []


def test_a_large_message_that_is_no_longer_sent_does_not_matter() -> None:
    sizes = [500] + [10] * 5
    messages = thread(6)
    kept = fitted(messages, 100, lambda message: sizes[messages.index(message)])
    assert kept == messages[1:]


def test_tokens_are_counted_by_bytes_and_images_by_a_share() -> None:
    assert [count_tokens(text) for text in ("", "abcd", "abcde", "数学")] == [0, 1, 2, 2]
    image = {
        "type": "image_url",
        "image_url": {"url": "https://example.org/a.png", "detail": "low"},
    }
    picture = TurnMessage("user", [*say("abcd").content, image])
    assert message_tokens(picture) - message_tokens(say("abcd")) == 85
