"""Syslog messages are read as by a reader that goes from word to word, and those of real files all are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab import Pipeline, processors
from tests.meaning import assert_means

LOGHUB = Path(__file__).parent.parent.parent / "shared" / "data" / "loghub"
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=3)
NAMES = ("facility", "severity", "timestamp", "host", "app", "procid", "msgid", "structured_data", "message")
MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


def read(text: str) -> dict[str, Any]:
    """Return the fields of a message; what is wrong with it raises ``ValueError``, or there is no such position."""
    fields: dict[str, Any] = dict.fromkeys(NAMES)
    rest, priority = text, re.match("<([0-9]{1,3})>", text)
    if priority:
        if str(int(priority[1])) != priority[1] or int(priority[1]) > 191:
            raise ValueError
        fields["facility"], fields["severity"] = divmod(int(priority[1]), 8)
        rest = text[priority.end() :]
    if priority and re.match("[0-9]{1,3}( |$)", rest):
        new(rest, fields)
    else:
        old(rest, fields)
    return fields


def new(text: str, fields: dict[str, Any]) -> None:
    version, *words, rest = text.split(" ", 6)
    if version != "1" or len(words) != 5 or not all(re.fullmatch("[!-~]+", word) for word in words):
        raise ValueError
    if words[0] != "-" and not rfc3339(words[0]):
        raise ValueError
    for name, word in zip(("timestamp", "host", "app", "procid", "msgid"), words, strict=True):
        fields[name] = None if word == "-" else word
    end = structured(rest)
    fields["structured_data"] = None if rest[:end] == "-" else rest[:end]
    if rest[end:]:
        if rest[end] != " ":
            raise ValueError
        fields["message"] = rest[end + 1 :].removeprefix("\ufeff")


def structured(text: str) -> int:
    """Return where the structured data ends that a text begins with."""
    if text.startswith("-"):
        return 1
    at = 0
    while text[at : at + 1] == "[":
        at = name(text, at + 1)
        while text[at] == " ":
            at = name(text, at + 1)
            if text[at : at + 2] != '="':
                raise ValueError
            at += 2
            while text[at] != '"':
                if text[at] == "]":
                    raise ValueError
                at += 2 if text[at] == "\\" else 1
            at += 1
        if text[at] != "]":
            raise ValueError
        at += 1
    if not at:
        raise ValueError
    return at


def name(text: str, at: int) -> int:
    start = at
    while "!" <= text[at] <= "~" and text[at] not in '="]':
        at += 1
    if at == start:
        raise ValueError
    return at


def rfc3339(text: str) -> bool:
    number = text.translate(str.maketrans("0123456789", "0" * 10))
    form = re.fullmatch(r"0000-00-00T00:00:00(\.0{1,6})?(Z|[+-]00:00)", number)
    return (
        form is not None
        and text[5] in "01"
        and text[8] in "0123"
        and clock(text[11:19])
        and (form[2] == "Z" or (text[-5] in "012" and text[-2] in "012345"))
    )


def clock(text: str) -> bool:
    return len(text) == 8 and text[0] in "012" and text[3] in "012345" and text[6] in "012345"


def old(text: str, fields: dict[str, Any]) -> None:
    if rfc3339(text.split(" ")[0]):
        fields["timestamp"], rest = text.split(" ", 1)
    else:
        if MONTHS.find(text[:3]) % 3 or len(text) < 16 or text[3] + text[6] + text[15] != "   " or not clock(text[7:15]):
            raise ValueError
        if not re.fullmatch("[0-9]{2}:[0-9]{2}:[0-9]{2}", text[7:15]):
            raise ValueError
        if text[4:6] not in [f"{day:2}" for day in range(1, 32)] + [f"{day:02}" for day in range(1, 10)]:
            raise ValueError
        fields["timestamp"], rest = text[:15], text[16:]
    host, space, after = rest.partition(" ")
    if space and host and not host.endswith(":"):
        fields["host"], rest = host, after
    tag, _, after = rest.partition(" ")
    found = re.fullmatch(r"([^:\[\]]+)(?::|\[([^\[\]]+)\]:?)", tag)
    if found:
        fields["app"], fields["procid"], rest = found[1], found[2], after
    fields["message"] = rest


def lines(*parts: str) -> st.SearchStrategy[str]:
    """Return texts of words, one of each part, with now and then another word, or a character less."""
    words = st.tuples(*(st.sampled_from(part.split("|")) | st.sampled_from(["x", "", " ", "é"]) for part in parts))
    right = st.tuples(*(st.sampled_from(part.split("|")) for part in parts)).map("".join)
    return st.one_of(right, right, right.map(lambda text: text[:-1]), words.map("".join))


DATA = st.sampled_from(
    [
        *["-", "[a]", '[a@1 b=""]', '[a b="c" d="\\]"][e]', '[a b="\\"]"]', '[a b="é\\x"]', '[a b="]"]', "[]", "[a ]"],
        *['[a b=""c=""]', '[a b="', "[a=]", '[a b="\\', "[a]]", "x", "[é]", '[a  b=""]'],
    ]
)
PRIORITIES = "<0>|<34>|<165>|<191>|<192>|<034>|<00>|<>|<1000>|"
INSTANTS = "2003-10-11T22:14:15.003Z|2003-10-11T22:14:15+01:00|-|2003-10-11T22:14:15.1234567Z|2003-10-11|2003-10-11T22:14:15"
NEW = st.tuples(
    lines(PRIORITIES, "1|1|1|2|12|01", " ", INSTANTS, " |  ", "host|-|h:|hé", " ", "app|-", " ", "-|17", " ", "-|ID4", " "),
    DATA,
    st.sampled_from([" ", "", " \ufeffüber", " \ufeff", " text ", "x", "  \ufeff", " a\nb", "\n"]),
).map("".join)
OLD = lines(
    PRIORITIES + "|||",
    "Oct 11 22:14:15|Oct  1 00:00:00|Oct 01 22:14:15|Oct 32 22:14:15|Okt 11 22:14:15|Oct 11 22:14:60|Oct 1 2:14:15|"
    + INSTANTS,
    " ",
    "host |fe80::1 |su: |hé. |",
    "su:|su[7]:|su[7]|su(pam)[7]:|su[]:|a:b|su: |[7]: |é: |: |::|last message| --| ",
    "|text|text: more| text |\ufefftext|'é'\n|\n",
)


@given(st.lists(NEW | OLD | st.text(max_size=5), max_size=20), SIZES)
def test_messages(values: list[str], sizes: list[int]) -> None:
    def checked(text: str) -> dict[str, Any]:
        try:
            return read(text)
        except IndexError:
            raise ValueError from None

    assert_means(processors.parse_syslog(), checked, values, sizes)


@given(
    st.lists(st.fixed_dictionaries({"f": st.none() | st.just("<13>Oct 11 22:14:15 h su[7]: x"), "host": st.just(1)})), SIZES
)
def test_of_a_field(values: list[dict[str, Any]], sizes: list[int]) -> None:
    def instead(value: dict[str, Any]) -> dict[str, Any]:
        if value["f"] is None:
            raise ValueError
        return read(value["f"])

    assert_means(processors.parse_syslog("f"), instead, values, sizes)


def test_examples_of_the_rfcs() -> None:
    """RFC 5424, section 6.5, and RFC 3164, section 5.4."""
    values = [
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \ufeff'su root' failed for lonvick on /dev/pts/8",
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource='
        '"Application" eventID="1011"] \ufeffAn application event log entry...',
        '<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut="3" eventSource='
        '"Application" eventID="1011"][examplePriority@32473 class="high"]',
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
    ]
    machine = "mymachine.example.com"
    data = '[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"]'
    failed = "'su root' failed for lonvick on /dev/pts/8"
    expected = [
        (4, 2, "2003-10-11T22:14:15.003Z", machine, "su", None, "ID47", None, failed),
        (
            20,
            5,
            "2003-08-24T05:14:15.000003-07:00",
            "192.0.2.1",
            "myproc",
            "8710",
            None,
            None,
            "%% It's time to make the do-nuts.",
        ),
        (20, 5, "2003-10-11T22:14:15.003Z", machine, "evntslog", None, "ID47", data, "An application event log entry..."),
        (
            20,
            5,
            "2003-10-11T22:14:15.003Z",
            machine,
            "evntslog",
            None,
            "ID47",
            f'{data}[examplePriority@32473 class="high"]',
            None,
        ),
        (4, 2, "Oct 11 22:14:15", "mymachine", "su", None, None, None, failed),
    ]
    answers = dict(zip(values, (dict(zip(NAMES, row, strict=True)) for row in expected), strict=True))
    assert_means(processors.parse_syslog(), answers.__getitem__, values, [5])


@pytest.mark.parametrize(("name", "without_app"), [("Linux", 8), ("OpenSSH", 0)])
def test_real_files(name: str, without_app: int) -> None:
    path = LOGHUB / f"{name}_2k.log"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    values = path.read_bytes().decode().removesuffix("\r\n").split("\r\n")
    assert_means(processors.parse_syslog(), read, values, [700])
    run = Pipeline("p").add("it", processors.parse_syslog()).run(values)
    assert not len(run.errors), "every line of a real file is read"
    # "syslogd 1.4.1: restart." says no app, and " -- root[2421]: ROOT LOGIN ON tty2" says it in its own way
    assert len(run.output) == 2000 and run.output["host"].notna().all()
    assert run.output["app"].isna().sum() == without_app


def test_structured_data() -> None:
    """RFC 5424, section 6.3.3: quotes, backslashes and closing brackets in a value have a backslash before them."""
    values = ["x", 'x"', "x]", "x\\]", "x\\", "x\\\\", 'x\\"', "\\n", "é", "", "x\n", "]["]
    texts = [f'<13>1 - - - - - [a b="{value}"]{after}' for value in values for after in ("", " m", "m", "[c]", "\n")]
    texts += [
        f"<13>1 - - - - - {data} m"
        for data in ("[a  b]", '[a b = ""]', "[é]", "[a=]", "[a]-", "[]", "[a", '[a b="" ]', "--")
    ]
    assert_means(processors.parse_syslog(), read_or_fail, texts, [7])


def test_very_long_messages() -> None:
    long = "x" * 2_000_000
    values = [
        f"<13>Oct 11 22:14:15 h su: {long}",
        f"<13>1 - - - - - - {long}",
        f'<13>1 - - - - - [a b="{long}"] {long}',
        long,
    ]
    values += [f"<13>Oct 11 22:14:15 {long}", f"<13>Oct 11 22:14:15 h {long}: x"]
    assert_means(processors.parse_syslog(), read_or_fail, values, [4])


def read_or_fail(text: str) -> dict[str, Any]:
    try:
        return read(text)
    except IndexError:
        raise ValueError from None


def test_bytes_that_are_no_text() -> None:
    values = ["<13>Oct 11 22:14:15 h\udcff su: \udcff", "<13>1 - \udcff - - - -", "<13>1 - - - - - - \udcff"]
    assert_means(processors.parse_syslog(), read_or_fail, values, [3])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("<13>1 - - - - -", "expected a message id, or - at position 14"),
        ("<13>1 - - - - - []", "expected structured data, or - at position 16"),
        ("<13>2 - - - - - -", "expected version 1 at position 4"),
        ("<13>1 2003 - - - - -", "expected a timestamp, or - at position 6"),
        ("hello", "expected a timestamp (Jan  2 15:04:05), after a priority from <0> to <191> or none at position 0"),
    ],
)
def test_what_is_no_syslog_fails_and_says_where(line: str, message: str) -> None:
    run = Pipeline("p").add("it", processors.parse_syslog()).run([line])
    assert run.errors["message"].tolist() == [f"{message}, got {line!r}"]
