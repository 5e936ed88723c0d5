"""Text that wants to be a script: as label, camera, error, event, release and delegate of a board."""

# ruff: noqa: E501 - a string a shape; cutting them would only make them harder to read.

from __future__ import annotations

from itertools import product

# What each would do if it ran: the page's own canary, `window.ran`, would be set.
_ACTS = ("window.ran=1", "parent.ran=1", "(0,eval)('ran=1')")
_SHAPES = (
    "<script>{}</script>", "<img src=x onerror={}>", "\"><svg onload={}>", "'><body onload={}>", "<svg><script>{}</script></svg>",
    "<iframe srcdoc='<script>{}</script>'>", "javascript:{}", "<a href=javascript:{} autofocus onfocus={}>x</a>",
    "</title><script>{}</script>", "</textarea><script>{}</script>", "</style><script>{}</script>", "--><script>{}</script>",
    "<details open ontoggle={}>", "<input autofocus onfocus={}>", "<video><source onerror={}></video>", "<math><mtext><img src=x onerror={}>",
    "<object data='data:text/html,<script>{}</script>'>", "<meta http-equiv=refresh content='0;url=javascript:{}'>",
    "<base href='javascript:{}//'>", "<link rel=stylesheet href='javascript:{}'>", "<form action=javascript:{}><button autofocus>",
    "{{{{constructor.constructor('{}')()}}}}", "{{% raw %}}{}{{% endraw %}}", "${{{}}}", "';{};//", "\";{};//", "`;{};`", "\\u003cscript\\u003e{}\\u003c/script\\u003e",
    "&lt;script&gt;{}&lt;/script&gt;", "&#60;script&#62;{}&#60;/script&#62;", "%3Cscript%3E{}%3C/script%3E", "<scr<script>ipt>{}</scr</script>ipt>",
    "<ScRiPt>{}</ScRiPt>", "<script\n>{}</script\n>", "<img/src/onerror={}>", "<svg/onload={}>", "<x onclick={} style=position:fixed;inset:0>x</x>",
    "<img src=x onerror=\"{}\" ", "<img src=`x` onerror={}>", "<template><script>{}</script></template>", "<noscript><p title='</noscript><img src=x onerror={}>'>",
    "<style>@import 'javascript:{}'</style>", "<p style=\"background:url(javascript:{})\">", "\u202e<script>{}</script>", "<\uff53cript>{}</script>",
    "<!--><img src=x onerror={}>-->", "]]><script>{}</script>", "<?xml version=1?><script>{}</script>", "<marquee onstart={}>x</marquee>",
    "event: now\ndata: {{\"html\":\"<img src=x onerror={}>\"}}\n\n", "</script><script>{}</script>", "x' autofocus onfocus='{}' y='", "x\" onmouseover=\"{}\" style=\"position:fixed;inset:0\" y=\"",
    "<audio src onloadstart={}>", "<body/onpageshow={}>", "<select autofocus onfocus={}>", "<keygen autofocus onfocus={}>", "<embed src=javascript:{}>",
    "<svg><animate onbegin={} attributeName=x dur=1s>", "<svg><set onbegin={} attributeName=x>", "<svg><use href='data:image/svg+xml,<svg id=x><script>{}</script></svg>#x'>",
    "<img src=x:{} onerror=eval(src.slice(2))>", "<dialog open onclose={}><form method=dialog><button>", "<button popovertarget=x>x</button><i popover id=x onbeforetoggle={}>",
    "<table background=javascript:{}>", "<isindex action=javascript:{} type=image>", "<textarea autofocus onfocus={}>",
)  # fmt: skip


def hostile_texts(most: int | None = None) -> list[str]:
    """Some hundred strings, or the first of each shape where fewer are wanted."""
    made = [shape.replace("{}", act).replace("{{", "{").replace("}}", "}") for act, shape in product(_ACTS, _SHAPES)]
    return made[:most] if most else made
