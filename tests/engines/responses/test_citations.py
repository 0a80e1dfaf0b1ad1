"""Citations: marks that programs can replace, at the right places of any text."""

from __future__ import annotations

import random
from typing import Any

import pytest

from assistant_manager.engines.responses.citations import cited
from tests.engines.responses.conftest import attached, by_id, file_of
from tests.engines.turns import answer_of

SEARCH = {"type": "file_search"}
LETTERS = "ab 1†【】🙏👩‍👩‍👧数学é\n"


def point(index: int, file_id: str = "file-1", filename: str = "a.txt") -> dict[str, Any]:
    return {"type": "file_citation", "index": index, "file_id": file_id, "filename": filename}


def span(start: int, end: int, filename: str, file_id: str = "cfile_1") -> dict[str, Any]:
    return {
        "type": "container_file_citation",
        "container_id": "cntr_1",
        "file_id": file_id,
        "filename": filename,
        "start_index": start,
        "end_index": end,
    }


def without_marks(text: str, annotations: list[dict[str, Any]]) -> str:
    """As a program that does not care for citations would have it."""
    for annotation in annotations:
        text = text.replace(annotation["text"], "")
    return text


def test_a_point_gets_a_mark_that_says_the_file() -> None:
    text, (annotation,) = cited("It is 4. Really.", [point(8)], {"file-1": "file-ours"}, ())
    assert text == "It is 4.【1†a.txt】 Really."
    assert annotation == {
        "type": "file_citation",
        "text": "【1†a.txt】",
        "start_index": 8,
        "end_index": 17,
        "file_citation": {"file_id": "file-ours"},
    }


def test_places_are_counted_in_characters_not_bytes() -> None:
    text, (annotation,) = cited("🙏🙏 4 数学", [point(4)], {}, ())
    assert text == "🙏🙏 4【1†a.txt】 数学"
    assert text[annotation["start_index"] : annotation["end_index"]] == annotation["text"]


def test_every_citation_has_a_mark_of_its_own() -> None:
    text, annotations = cited("ab", [point(1), point(1), point(2, "file-2", "b")], {}, ())
    assert text == "a【1†a.txt】【2†a.txt】b【3†b】"
    assert len({annotation["text"] for annotation in annotations}) == 3


def test_a_mark_that_the_answer_itself_contains_is_not_used() -> None:
    text, (annotation,) = cited("He wrote 【1†a.txt】!", [point(3)], {}, ())
    assert annotation["text"] == "【2†a.txt】"
    assert without_marks(text, [annotation]) == "He wrote 【1†a.txt】!"


def test_taking_all_marks_out_gives_back_any_text() -> None:
    chance = random.Random(4711)
    for _ in range(2000):
        text = "".join(chance.choices(LETTERS, k=chance.randrange(30)))
        names = ["a", "【1†a】", "】【", "x\ny"]
        points = [
            point(chance.randrange(-2, len(text) + 3), filename=chance.choice(names))
            for _ in range(chance.randrange(6))
        ]
        marked, annotations = cited(text, points, {}, ())
        assert len(annotations) == len(points)
        for annotation in annotations:
            slice = marked[annotation["start_index"] : annotation["end_index"]]
            assert slice == annotation["text"]
            assert marked.count(slice) == 1
        chance.shuffle(annotations)
        assert without_marks(marked, annotations) == text


def test_a_link_to_a_file_that_code_wrote_is_annotated_where_it_stands() -> None:
    link = "sandbox:/mnt/data/out.csv"
    answer = f"Done. [Table]({link}) 🙏"
    start = answer.index(link)
    text, annotations = cited(
        answer, [point(5), span(start, start + len(link), "out.csv")], {}, {"cfile_1"}
    )
    assert text == f"Done.【1†a.txt】 [Table]({link}) 🙏"
    path = annotations[1]
    assert (path["type"], path["text"]) == ("file_path", link)
    assert path["file_path"] == {"file_id": "cfile_1"}
    assert text[path["start_index"] : path["end_index"]] == link


def test_a_file_without_a_link_gets_one_and_a_picture_does_not() -> None:
    text, (annotation,) = cited("Done.", [span(5, 5, "out.csv")], {}, {"cfile_1"})
    assert text == "Done.sandbox:/mnt/data/out.csv"
    assert annotation["text"] == "sandbox:/mnt/data/out.csv"
    assert cited("Done.", [span(5, 5, "plot.png")], {}, {"cfile_1"}) == ("Done.", [])


def test_a_file_whose_link_stands_elsewhere_is_annotated_there_once() -> None:
    answer = "See sandbox:/mnt/data/out.csv."
    text, annotations = cited(answer, [span(30, 30, "out.csv")] * 2, {}, {"cfile_1"})
    assert text == answer
    assert [(note["start_index"], note["end_index"]) for note in annotations] == [(4, 29)]


@pytest.mark.parametrize(
    "answer", ["Done.", "See sandbox:/mnt/data/a.csv.zip", "sandbox:/mnt/data/a.csv-old, too"]
)
@pytest.mark.parametrize("names", [("a.csv", "a.csv.zip"), ("a.csv.zip", "a.csv")])
def test_a_link_that_begins_another_one_is_not_taken_for_it(
    answer: str, names: tuple[str, str]
) -> None:
    spans = [span(0, 0, name, file_id=name) for name in names]
    text, annotations = cited(answer, spans, {}, set(names))
    places = [(note["start_index"], note["end_index"]) for note in annotations]
    for annotation, (start, end) in zip(annotations, places, strict=True):
        assert text[start:end] == annotation["text"]
    for annotation in annotations:
        if annotation["text"] not in answer:
            text = text.replace(annotation["text"], "")
    assert text == answer


@pytest.mark.parametrize("name", ["../../a.csv", "/etc/a.csv", "x/a.csv"])
def test_a_link_names_the_file_without_its_folders(name: str) -> None:
    text, _ = cited("", [span(0, 0, name)], {}, {"cfile_1"})
    assert text == "sandbox:/mnt/data/a.csv"


def test_a_name_of_many_lines_stays_on_one() -> None:
    text, (mark, _) = cited("ab", [point(0, filename="a\nb"), span(0, 0, "c\nd")], {}, {"cfile_1"})
    assert mark["text"] == "【1†a b】"
    assert "\n" not in text


@pytest.mark.parametrize("place", ["3", None, [], {}, 1.5, -7, 10**30])
def test_a_place_that_is_none_is_at_an_end(place: Any) -> None:
    text, annotations = cited("ab", [point(place), span(place, place, "c")], {}, {"cfile_1"})
    assert without_marks(text, annotations) == "ab"


def test_a_mark_is_put_behind_a_link_rather_than_into_it() -> None:
    link = "sandbox:/mnt/data/out.csv"
    text, annotations = cited(f"{link} ", [span(0, 25, "out.csv"), point(9)], {}, {"cfile_1"})
    assert text == f"{link}【1†a.txt】 "
    assert [annotation["text"] for annotation in annotations] == [link, "【1†a.txt】"]


def test_addresses_and_files_that_are_gone_leave_the_text_alone() -> None:
    url = {"type": "url_citation", "url": "https://example.org", "start_index": 0, "end_index": 2}
    assert cited("text", [url, span(0, 2, "gone.csv")], {}, ()) == ("text", [])


def test_a_search_is_cited_with_our_ids(play: Any) -> None:
    notes = file_of("notes.txt", "Seven 🙏 is the answer.".encode())
    progress = play(
        attached("What is x?", notes, tool="file_search"),
        tools=[SEARCH],
        files=by_id(notes),
        script={"answer": "🙏 x = 7.", "citations": [{"file": 0, "at": 7}]},
    )
    tools, message = progress.items
    assert answer_of(progress) == "🙏 x = 7【1†notes.txt】."
    (annotation,) = message.annotations
    assert annotation["file_citation"] == {"file_id": notes.id}
    (call,) = tools.calls
    (result,) = call.results
    assert (result["file_id"], result["file_name"]) == (notes.id, "notes.txt")
    assert result["content"] == [{"type": "text", "text": "Seven 🙏 is the answer."}]
