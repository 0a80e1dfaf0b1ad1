"""The host among files that model-written code made. Built here by hand: a cell cannot make links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assistant_manager.sandbox.folder import Area, WorkFolder, remove
from assistant_manager.sandbox.values import Limits

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work", owner=None)


def read(folder: WorkFolder, **limits: int) -> tuple[bytes, ...]:
    return folder.read_pictures({}, Limits(**limits))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["..", "../secret", "/etc/passwd", "a/b", "", "\0", "\ud800", "x" * 300]
)
def test_a_name_that_no_file_here_can_have_is_no_file(folder: WorkFolder, name: str) -> None:
    (folder.path.parent / "secret").write_bytes(b"secret")
    assert folder.read(name, Limits()) is None


def test_only_a_plain_file_of_bounded_size_is_read(folder: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (folder.path / "link").symlink_to(tmp_path / "secret")
    (folder.path / "loop").symlink_to("loop")
    (folder.path / "folder").mkdir()
    os.mkfifo(folder.path / "pipe")
    with (folder.path / "holes").open("wb") as file:
        file.truncate(10 * 2**30)
    (folder.path / "plain").write_bytes(b"12345")
    for name in ("link", "loop", "folder", "pipe", "holes"):
        assert folder.read(name, Limits()) is None, name
    assert folder.read("plain", Limits(file_bytes=5)) == b"12345"
    assert folder.read("plain", Limits(file_bytes=4)) is None


def test_a_file_is_not_laid_through_a_link(folder: WorkFolder, tmp_path: Path) -> None:
    (folder.path / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        folder.write("a", b"1")
    assert not (tmp_path / "elsewhere").exists()


def test_a_picture_is_read(folder: WorkFolder) -> None:
    (folder.path / "a.png").write_bytes(PNG + b"x")

    assert read(folder) == (PNG + b"x",)


def test_a_link_is_not_followed(folder: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG + b"secret")
    (folder.path / "a.png").symlink_to(tmp_path / "secret.png")

    assert read(folder) == ()


def test_a_linked_folder_is_not_followed(folder: WorkFolder, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "a.png").write_bytes(PNG + b"secret")
    (folder.path / ".figures").symlink_to(tmp_path / "secrets")

    assert read(folder) == ()


def test_a_pipe_named_like_a_picture_does_not_hold_the_host_up(folder: WorkFolder) -> None:
    os.mkfifo(folder.path / "a.png")

    assert read(folder) == ()


def test_a_folder_named_like_a_picture_is_left_alone(folder: WorkFolder) -> None:
    (folder.path / "a.png").mkdir()

    assert read(folder) == ()


def test_what_is_no_png_inside_is_not_a_picture(folder: WorkFolder) -> None:
    (folder.path / "a.png").write_bytes(b"<svg onload=alert(1)>")

    assert read(folder) == ()


def test_an_unchanged_picture_is_not_read_again(folder: WorkFolder) -> None:
    (folder.path / "a.png").write_bytes(PNG)
    before = folder.pictures()
    (folder.path / "b.png").write_bytes(PNG + b"new")

    assert folder.read_pictures(before, Limits()) == (PNG + b"new",)


def test_a_file_with_holes_counts_by_what_it_holds(folder: WorkFolder) -> None:
    with (folder.path / "holes").open("wb") as file:
        file.truncate(10**9)

    assert folder.problem(Limits(work_bytes=10**6)) is None


def test_a_tree_of_any_depth_and_mode_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 50, 0o700, dir_fd=here)
        Path(f"/proc/self/fd/{here}/file").touch()
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (root / "closed").mkdir()
    (root / "closed" / "file").write_text("x")
    (root / "closed").chmod(0o000)

    remove(root)

    assert not root.exists()


def test_removing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "link").symlink_to(tmp_path / "kept")
    (root / "link").symlink_to(tmp_path / "kept")

    remove(root)

    assert not root.exists()
    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_leftovers_of_a_dead_process_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    living = Area(tmp_path, owner=None)
    dead = Area(tmp_path, owner=None)
    dead.folder()
    os.close(dead._lock)  # what the operating system does when a process is killed

    newcomer = Area(tmp_path, owner=None)

    assert sorted(tmp_path.glob("*.lock")) == sorted([living._lock_path, newcomer._lock_path])
    assert living.path.is_dir()
    assert not dead.path.exists()
    living.close()
    newcomer.close()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_the_sandbox_user_cannot_walk_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "public"))
    (tmp_path / "public").mkdir()
    (tmp_path / "closed").mkdir(mode=0o700)

    area = Area(tmp_path / "closed" / "work", owner=65123)

    assert tmp_path / "public" in area.path.parents
    area.close()
