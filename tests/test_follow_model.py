"""Following files, against a model: whatever happens to them, each line comes once, and what was lost is said."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamlab.notices import Notice
from streamlab.sources.follow import FollowSource

#: Seconds after which nothing more is expected of a file: short, as what is done to files is done between two reads.
GRACE = 0.03
#: Seconds that lines may take to come.
PATIENCE = 30.0
#: How the paths are given that are followed; the last one is through a link to the folder.
SPELLINGS = ["absolute", "relative", "linked"]
#: How long lines are: some make a file of a few of them longer than what tells files apart.
LENGTHS = st.sampled_from([0, 0, 0, 40, 400, 1500])


@dataclass(eq=False, repr=False)
class Content:
    """What is written to a file between its creation and its rotation, removal or truncation.

    Attributes:
        number: in the order of creation.
        group: of which file it is: ``app``, or the name of a twin.
        lines: those that have ended, or are the last and will not be written to any more.
        half: the beginning of a line, not ended.
        path: where it is to be found, if it is.
        open: whether more may be written to it.
        seen: whether the source that reads now has read of it.
        saved: whether that was so at the position to go back to.
        cut: whether it was truncated: its file holds something else.
    """

    number: int
    group: str
    lines: list[str] = field(default_factory=list)
    half: str = ""
    path: Path | None = None
    open: bool = True
    seen: bool = False
    saved: bool = False
    cut: bool = False

    def __repr__(self) -> str:
        return f"<{self.number} of {self.group} at {self.path}>"

    def end(self) -> None:
        """Nothing more will be written."""
        if self.half:
            self.lines.append(self.half)
            self.half = ""
        self.open = False

    @property
    def reachable(self) -> bool:
        return self.path is not None or (self.seen and not self.cut)


def group_of(where: str) -> str:
    """Return of which file the lines are that are said to be from there."""
    name = Path(where).name
    return name if name.startswith("twin") else "app"


class Following(RuleBasedStateMachine):
    """Does to files what writers and rotation do, and reads what there is."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.folder = self.base / "logs"
        self.folder.mkdir()
        (self.base / "linked").symlink_to("logs")
        self.spelling = SPELLINGS[0]
        self.log = self.folder / "app.log"
        self.contents: list[Content] = []
        self.current: Content | None = None
        self.rotated: list[Content] = []  # youngest first: app.log.1, app.log.2 ...
        self.source: FollowSource | None = None
        self.where: list[Path] = []
        self.got: list[tuple[str, str]] = []  # group and line
        self.chunks: list[tuple[Any, int]] = []  # read and not passed
        self.saved: Any = None
        self.saved_got = 0
        self.notices: list[Notice] = []
        self.next_line = 0
        self.must_be_said = False

    @initialize(where=st.sampled_from(["app.log", "app.log*", "*.log*", ""]))
    def start(self, where: str) -> None:
        self.where = [self.folder / where]
        self.create()
        self.append(1, 40)
        self.read_all()

    def teardown(self) -> None:
        try:
            if self.where:
                self.read_all()
                self.check_nothing_more_comes()
        finally:
            if self.source is not None:
                self.source.close()
            shutil.rmtree(self.base)

    # What happens to files

    def content(self, group: str, path: Path) -> Content:
        made = Content(len(self.contents), group, path=path)
        self.contents.append(made)
        return made

    @precondition(lambda self: self.where and self.current is None)
    @rule()
    def create(self) -> None:
        self.current = self.content("app", self.log)
        self.log.touch()

    @precondition(lambda self: self.current is not None)
    @rule(count=st.integers(1, 4), length=LENGTHS)
    def append(self, count: int, length: int) -> None:
        assert self.current is not None and self.current.path is not None
        self.write(self.current, count, length)

    @precondition(lambda self: self.current is not None)
    @rule(length=LENGTHS)
    def append_half(self, length: int) -> None:
        content = self.current
        assert content is not None and content.path is not None
        text = f"{content.number}:{self.next_line}:" + "h" * (length + 1) if not content.half else "i" * (length + 1)
        self.next_line += not content.half
        content.half += text
        with content.path.open("a") as file:
            file.write(text)

    def write(self, content: Content, count: int, length: int) -> None:
        assert content.path is not None
        with content.path.open("a") as file:
            for _ in range(count):
                if content.half:
                    content.lines.append(content.half + "!")
                    content.half = ""
                    file.write("!\n")
                else:
                    content.lines.append(f"{content.number}:{self.next_line}:" + "x" * length)
                    self.next_line += 1
                    file.write(content.lines[-1] + "\n")

    def shift(self) -> None:
        """Make room for app.log.1."""
        for index in reversed(range(len(self.rotated))):
            content = self.rotated[index]
            if content.path is not None:
                packed = ".gz" if content.path.name.endswith(".gz") else ""
                content.path = content.path.rename(self.folder / f"app.log.{index + 2}{packed}")

    @precondition(lambda self: self.current is not None)
    @rule(at_once=st.booleans())
    def rotate(self, at_once: bool) -> None:
        assert self.current is not None
        self.shift()
        self.current.end()
        self.current.path = self.log.rename(self.folder / "app.log.1")
        self.rotated.insert(0, self.current)
        self.current = None
        if at_once:
            self.create()

    @precondition(lambda self: self.current is not None)
    @rule()
    def copy_and_truncate(self) -> None:
        assert self.current is not None
        self.shift()
        self.current.end()
        self.current.path, self.current.cut = Path(shutil.copy(self.log, self.folder / "app.log.1")), True
        self.rotated.insert(0, self.current)
        os.truncate(self.log, 0)
        self.current = self.content("app", self.log)

    @precondition(lambda self: self.current is not None)
    @rule(count=st.integers(0, 30))
    def truncate(self, count: int) -> None:
        assert self.current is not None
        self.current.end()
        self.current.path, self.current.cut = None, True
        os.truncate(self.log, 0)
        self.current = self.content("app", self.log)
        if count:
            self.append(count, 100)

    @precondition(lambda self: self.current is not None)
    @rule()
    def remove(self) -> None:
        assert self.current is not None
        self.current.end()
        self.current.path = None
        self.log.unlink()
        self.current = None

    @precondition(lambda self: any(content.path and content.path.suffix != ".gz" for content in self.rotated))
    @rule(data=st.data())
    def compress(self, data: st.DataObject) -> None:
        plain = [content for content in self.rotated if content.path and content.path.suffix != ".gz"]
        content = data.draw(st.sampled_from(plain))
        assert content.path is not None
        packed = Path(f"{content.path}.gz")
        status = content.path.stat()
        packed.write_bytes(gzip.compress(content.path.read_bytes()))
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
        content.path.unlink()
        content.path = packed

    @precondition(lambda self: any(content.path for content in self.rotated))
    @rule()
    def drop_oldest(self) -> None:
        content = next(content for content in reversed(self.rotated) if content.path)
        assert content.path is not None
        content.path.unlink()
        content.path = None

    @precondition(lambda self: self.current is not None and self.where[0].name not in ("app.log", "app.log*"))
    @rule(count=st.integers(0, 2))
    def add_twin(self, count: int) -> None:
        """Add another file that begins as this one does."""
        name = f"twin{len(self.contents)}.log"
        twin = self.content(name, self.folder / name)
        head = self.log.read_bytes()[:1024]
        head = head[: head.rfind(b"\n") + 1]
        (self.folder / name).write_bytes(head)
        twin.lines += head.decode().splitlines()
        if count:
            self.write(twin, count, 10)

    @precondition(lambda self: self.current is not None and self.where[0].name not in ("app.log", "app.log*"))
    @rule(parts=st.integers(1, 3), count=st.integers(1, 4), length=LENGTHS)
    def add_archive(self, parts: int, count: int, length: int) -> None:
        """Add a file that was packed from the beginning, in one part or several."""
        name = f"twin{len(self.contents)}.log.gz"
        archive = self.content(name, self.folder / name)
        archive.end()
        archive.lines = [f"{archive.number}:{self.next_line + index}:" + "z" * length for index in range(parts * count)]
        self.next_line += parts * count
        texts = ("".join(f"{line}\n" for line in archive.lines[part * count :][:count]) for part in range(parts))
        (self.folder / name).write_bytes(b"".join(gzip.compress(text.encode()) for text in texts))

    # Reading

    def follow(self) -> FollowSource:
        if self.source is None:
            self.source = FollowSource([self.spelled(path) for path in self.where], grace=GRACE)
            if self.saved is not None:
                self.source.resume(json.loads(json.dumps(self.saved)))
        return self.source

    def spelled(self, path: Path) -> str | Path:
        if self.spelling == "linked":
            return self.base / "linked" / path.relative_to(self.folder)
        return path if self.spelling == "absolute" else os.path.relpath(path)

    def missing(self) -> Counter[tuple[str, str]]:
        """Return what must come, and has not."""
        certain = Counter((content.group, line) for content in self.contents if content.reachable for line in content.lines)
        return certain - Counter(self.got)

    def read_all(self) -> None:
        while missing := self.missing():
            self.read_some(1000, missing)

    @precondition(lambda self: self.where)
    @rule()
    def read(self) -> None:
        self.follow()
        self.read_all()

    @precondition(lambda self: self.where)
    @rule(limit=st.integers(1, 5))
    def read_a_bit(self, limit: int) -> None:
        self.follow()
        if missing := self.missing():
            self.read_some(limit, missing)

    def read_some(self, limit: int, missing: Counter[tuple[str, str]]) -> None:
        source = self.follow()
        watchdog = threading.Timer(PATIENCE, source.close)
        watchdog.start()
        try:
            chunk = source.read(limit)
        finally:
            watchdog.cancel()
            watchdog.join()
        assert chunk.lines, f"did not come: {missing}"
        group = group_of(chunk.source)
        self.chunks.append((chunk.places, len(chunk.lines)))
        for line in chunk.lines:
            self.take(group, line)
        while source.notices:
            self.notices.append(source.notices.popleft())

    def take(self, group: str, line: str) -> None:
        for content in self.contents:
            if content.group == group and line in content.lines:
                content.seen = True
                break
        else:
            self.take_torn(group, line)
            return
        self.got.append((group, line))
        assert self.got.count((group, line)) == 1, f"doubled: {line}"
        if self.where == [self.log]:
            self.check_order(group)

    def take_torn(self, group: str, line: str) -> None:
        """What was read of a line that a truncation destroyed before its end was read is a line."""
        for content in self.contents:
            rest = [whole for whole in content.lines if (group, whole) not in self.got]
            if content.group == group and content.cut and rest and rest[0].startswith(line):
                content.lines[content.lines.index(rest[0])] = line
                self.got.append((group, line))
                return
        raise AssertionError(f"never written: {line}")

    def check_order(self, group: str) -> None:
        lines = [line.split(":") for of, line in self.got[-2:] if of == group and line.count(":") == 2]
        numbers = [(int(content), int(number)) for content, number, _ in lines]
        assert numbers == sorted(numbers)

    # Stopping

    @precondition(lambda self: self.source is not None)
    @rule(share=st.sampled_from([0.0, 0.5, 0.9, 1.0, 1.0]))
    def save(self, share: float) -> None:
        """Let a part of what was read pass, and keep the position."""
        assert self.source is not None
        unpassed = sum(count for _, count in self.chunks)
        passing = int(unpassed * share)
        self.saved_got = len(self.got) - (unpassed - passing)
        while passing:
            places, count = self.chunks.pop(0)
            part = min(passing, count)
            self.source.passed(places, part)
            passing -= part
            if part < count:
                self.chunks.insert(0, (places.beyond(part), count - part))
        self.saved = self.source.position()
        for content in self.contents:
            content.saved = content.seen

    @precondition(lambda self: self.source is not None and self.saved is not None)
    @rule(spelling=st.sampled_from(SPELLINGS))
    def crash(self, spelling: str) -> None:
        """Go back to the position: what came after it comes again, whatever the folder is called then."""
        assert self.source is not None
        self.spelling = spelling
        self.source.close()
        self.source = None
        del self.got[self.saved_got :]
        self.chunks.clear()
        for content in self.contents:
            content.seen = False

    @precondition(lambda self: self.source is not None)
    @rule(spelling=st.sampled_from(SPELLINGS))
    def stop_and_go_on(self, spelling: str) -> None:
        """Stop in order, with all that was read passed."""
        assert self.source is not None
        for places, count in self.chunks:
            self.source.passed(places, count)
        self.chunks.clear()
        self.saved, self.saved_got = self.source.position(), len(self.got)
        for content in self.contents:
            content.saved = content.saved or content.seen
        self.crash(spelling)

    @precondition(lambda self: self.where and self.source is None)
    @rule()
    def move(self) -> None:
        """Move the folder while nobody looks."""
        old, self.folder = self.folder, self.folder.rename(f"{self.folder}-")
        self.log = self.folder / self.log.name
        self.where = [self.folder / path.relative_to(old) for path in self.where]
        for content in self.contents:
            content.path = content.path and self.folder / content.path.name
        (self.base / "linked").unlink()
        (self.base / "linked").symlink_to(self.folder)

    # What must be so in the end

    def check_nothing_more_comes(self) -> None:
        """Wait for a while, and until it is said that lines were lost, if they were."""
        source = self.follow()
        self.must_be_said = self.must_be_said or any(
            not Counter(self.got)[content.group, line]
            for content in self.contents
            if content.seen or content.saved
            for line in content.lines
        )

        def close() -> None:
            time.sleep(4 * GRACE)
            end = time.monotonic() + PATIENCE
            while self.must_be_said and not (self.notices or source.notices) and time.monotonic() < end:
                time.sleep(0.01)
            source.close()

        closing = threading.Thread(target=close)
        closing.start()
        while (chunk := source.read(1000)).lines:
            for line in chunk.lines:
                self.take_late(chunk.source, line)
        closing.join()
        assert self.notices or source.notices or not self.must_be_said, "lost without a word"

    def take_late(self, where: str, line: str) -> None:
        group = group_of(where)
        lost = [content for content in self.contents if content.group == group and not content.reachable]
        known = Counter(line for of, line in self.got if of == group)
        assert any(whole.startswith(line) and not known[whole] for content in lost for whole in content.lines), (where, line)

    @invariant()
    def few_files_are_open(self) -> None:
        assert len(os.listdir("/dev/fd")) < 200


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=int(os.environ.get("FOLLOW_EXAMPLES", "60")), stateful_step_count=30)
