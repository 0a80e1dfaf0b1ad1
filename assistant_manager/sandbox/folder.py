"""Work folders: where cells keep files, and how the host looks at what they left.

Everything in a work folder was made by model-written code. The host follows no link, opens no
device or pipe, trusts no size, and deletes trees of any depth.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from assistant_manager.sandbox.inside.cells import FIGURES
from assistant_manager.sandbox.values import Limits

_PNG = b"\x89PNG\r\n\x1a\n"
_LOOK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Seen = tuple[int, int, int]  # inode, time of change in ns, size


class WorkFolder:
    def __init__(self, path: Path, *, owner: int | None) -> None:
        """Make the folder, for the user `owner` if given."""
        self.path, self._owner = path, owner
        path.mkdir(mode=0o700)
        if owner is None:
            return
        try:
            os.chown(path, owner, owner)
        except OSError as error:  # a container that has one user only, or root without its powers
            raise PermissionError(
                f"running as root, who cannot become user {owner} here ({error.strerror}); "
                "start the worker as an ordinary user instead"
            ) from error

    def write(self, name: str, content: bytes) -> None:
        """Lay a file here, before any code has run. FileExistsError for a name that is taken,
        ValueError for one that leads elsewhere."""
        if not _is_plain(name):
            raise ValueError(f"{name!r} is no name of a file")
        with (self.path / name).open("xb") as file:
            if self._owner is not None:
                os.fchown(file.fileno(), self._owner, self._owner)
            file.write(content)

    def problem(self, limits: Limits) -> str | None:
        """Say which limit the folder's contents break, None if none. Bounded work, however many."""
        count = used = 0
        waiting = [str(self.path)]
        try:
            while waiting:
                for entry in _entries(waiting.pop()):
                    count += 1
                    with contextlib.suppress(FileNotFoundError):
                        used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if count > limits.work_files:
                        return f"Stopped: it made more than {limits.work_files} files."
                    if used > limits.work_bytes:
                        return f"Stopped: its files grew over {limits.work_bytes // 2**20} MiB."
        except OSError:
            return "Stopped: it made a folder that cannot be looked into."
        return None

    def pictures(self) -> dict[str, Seen]:
        """What is there that may be a picture, by path inside the folder: figures, then files."""
        found: dict[str, Seen] = {}
        for place in (FIGURES, ""):
            with contextlib.suppress(OSError):
                for entry in sorted(os.scandir(self.path / place), key=lambda entry: entry.name):
                    if entry.name.lower().endswith(".png"):
                        about = entry.stat(follow_symlinks=False)
                        seen = (about.st_ino, about.st_mtime_ns, about.st_size)
                        found[f"{place}/{entry.name}".lstrip("/")] = seen
        return found

    def read_pictures(self, before: dict[str, Seen], limits: Limits) -> tuple[bytes, ...]:
        """The PNGs that are new or changed since `before`; each content once, the first few only."""
        contents: dict[bytes, None] = {}
        for name, seen in self.pictures().items():
            if len(contents) == limits.images:
                break
            content = self._read(name, limits.image_bytes) if before.get(name) != seen else None
            if content and content.startswith(_PNG):
                contents[content] = None
        return tuple(contents)

    def read(self, name: str, limits: Limits) -> bytes | None:
        """The file of this name, which code has left here; None where there is none."""
        return self._read(name, limits.file_bytes) if _is_plain(name) else None

    def _read(self, name: str, most: int) -> bytes | None:
        place, _, name = name.rpartition("/")
        try:
            with _opened(self.path / place, _LOOK) as folder, _opened(name, _READ, folder) as file:
                about = os.fstat(file)
                if not stat.S_ISREG(about.st_mode) or about.st_size > most:
                    return None
                with os.fdopen(os.dup(file), "rb") as stream:
                    content = stream.read(most + 1)
        except (OSError, ValueError):  # ValueError: no name that a file can have
            return None
        return content if len(content) <= most else None

    def remove(self) -> None:
        remove(self.path)


def _is_plain(name: str) -> bool:
    """Whether it can only lie in the folder itself."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def remove(path: Path) -> None:
    """Delete a tree of any depth and with any modes. Absent is fine.

    Folders are moved up to the top before they are emptied, so neither the length of a path nor
    the stack grows with the depth. shutil.rmtree fails on a tree a thousand folders deep.
    """
    with contextlib.suppress(FileNotFoundError):
        with _opened(path, _LOOK) as top:
            while names := os.listdir(top):  # noqa: PTH208 - by descriptor
                for name in names:
                    if not _unlinked(name, top):
                        _hoist(name, top)
        path.rmdir()


def _hoist(name: str, top: int) -> None:
    """Move the folders inside `name` up into `top`, delete its files, then the folder itself."""
    with _opened(name, _LOOK, top) as folder:
        for inner in os.listdir(folder):  # noqa: PTH208
            if not _unlinked(inner, folder):
                os.rename(inner, uuid.uuid4().hex, src_dir_fd=folder, dst_dir_fd=top)
    os.rmdir(name, dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    """Delete `name` unless it is a folder; then make sure that we may look into it."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        os.chmod(name, 0o700, dir_fd=folder)
        return False
    return True


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except FileNotFoundError:  # deleted since we heard of it
        return


@contextlib.contextmanager
def _opened(path: str | Path, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Area:
    """This process's own part of the work directory, which several processes may share.

    A lock that the operating system drops with the process marks it as in use, so whoever comes
    next can tell the leftovers of a killed process from the folders of a living one.
    """

    def __init__(self, work_dir: Path, *, owner: int | None) -> None:
        """`owner`: the user whom the folders will belong to, None for ourselves.

        That user must be able to walk down to them by name, not only by descriptor, or nothing
        that asks for a real path works in there. So where some folder on the way is closed to
        others, as root's home is, the folders are made in the system's temporary directory.
        """
        self._owner = owner
        work_dir.mkdir(parents=True, exist_ok=True)
        if owner is not None and not _open_to_others(work_dir):
            work_dir = _public_place()
        for lock in work_dir.glob("*.lock"):
            _remove_if_abandoned(lock)
        while True:
            self.path = work_dir / uuid.uuid4().hex
            self._lock_path = self.path.with_suffix(".lock")
            lock_fd = _locked(self._lock_path, os.O_CREAT | os.O_EXCL)
            if lock_fd is not None:  # else somebody took our new file for an abandoned one
                break
        self._lock = lock_fd
        self.path.mkdir(mode=0o700 if owner is None else 0o711)

    def folder(self) -> WorkFolder:
        return WorkFolder(self.path / uuid.uuid4().hex, owner=self._owner)

    def close(self) -> None:
        remove(self.path)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)


def _open_to_others(path: Path) -> bool:
    path = path.resolve()
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def _public_place() -> Path:
    """A folder of ours in the temporary directory. PermissionError: somebody else made it first."""
    place = Path(tempfile.gettempdir()) / f"assistant-manager-sandbox-{os.geteuid()}"
    place.mkdir(mode=0o711, exist_ok=True)
    about = place.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise PermissionError(f"{place} belongs to somebody else")
    return place


def _remove_if_abandoned(lock: Path) -> None:
    descriptor = _locked(lock)
    if descriptor is not None:
        remove(lock.with_suffix(""))
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, flags: int = 0) -> int | None:
    """Lock the file; return its descriptor, None when another holds or has deleted it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:  # noqa: PTH116
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
