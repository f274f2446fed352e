"""What a chat template may take: steps without a bound are refused, and a watch ends what runs too long."""

from __future__ import annotations

import threading

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lastresort.data import template_limits
from lastresort.data.chat_template import PLAIN_TEMPLATE
from lastresort.data.template_limits import TemplateUnbounded, unbounded_step, within_limits

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
ORDINARY = (
    PLAIN_TEMPLATE,
    "{% for m in messages %}{% if loop.index0 % 2 == 1 %}{{ m.content | trim }}{% endif %}{% endfor %}",
    "{% generation %}{{ messages[0]['content'].split('</think>')[-1].lstrip('\\n') }}{% endgeneration %}",
    "{{ tools | tojson(indent=4, ensure_ascii=False) }}{{ ', '.join(names) }}{{ names | join(', ') }}",
    "{% for m in messages %}{% if m.role == 'x' %}{% break %}{% endif %}{{ m.content.replace('\\n', ' ') }}{% endfor %}",
    "{{ m.content.replace('\\\\', '\\\\\\\\').replace('<image>', '<|start|><|image|>') | replace('reasoning', 'REASONING') }}",
    "{% macro kind(schema) %}{{ schema.format }}{{ kind(schema['items']) }}{% endmacro %}{{ kind(tools[0]) }}",
    "{% set day = strftime_now('%Y-%m-%d') %}{% for m in messages %}{{ loop.index0 * 2 }}{{ ns.turns % 2 }}{% endfor %}",
    "{{ messages | map(attribute='content') | list }}{{ messages | selectattr('role', 'equalto', 'user') | list }}",
)


@pytest.mark.parametrize("template", ORDINARY)
def test_ordinary_templates_have_no_step_without_a_bound(template: str) -> None:
    assert unbounded_step(template) is None


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ 'a' * 10000000000 }}", r"operator \*"),
        ("\n{{ 10 ** n }}", r"operator \*\* on line 2"),
        ("{{ n * n }}", r"operator \*"),
        ("{{ messages[0].content * 1000 * 1000 }}", r"operator \*"),
        ("{{ ('%' ~ n ~ 'd') % 2 }}", "operator %"),
        ("{{ '%9999999999d' % 1 }}", "operator %"),
        ("{{ fmt % n }}", "operator %"),
        ("{{ 'a'.zfill(n) }}", "zfill"),
        ("{{ 'a' | center(n) }}", "center"),
        ("{{ '{:>{}}'.format(1, n) }}", "format"),
        ("{{ names | map('center', n) | list }}", "center"),
        ("{{ names | map(which, n) | list }}", "attr"),
        ("{% set pad = 'a'.ljust %}{{ pad(n) }}", "attr"),
        ("{{ ('a' | attr('ljust'))(n) }}", "attr"),
        ("{{ s.replace('a', s) }}", "replace"),
        ("{{ s.replace(new=s, old='a') }}", "replace"),
        ("{{ s.replace('a', '" + "a" * 17 + "') }}", "replace"),
        ("{{ s.replace(old, '" + "a" * 17 + "') }}", "replace"),
        ("{{ s.replace(old='" + "a" * 17 + "', new='b') }}", "replace"),
        ("{{ s | join('" + "a" * 17 + "') }}", "join"),
        ("{{ x | tojson(indent=17) }}", "tojson"),
        ("{{ s | join(s) }}", "join"),
        ("{{ s.join(s) }}", "join"),
        ("{{ x | tojson(indent=n, ensure_ascii=False) }}", "tojson"),
        ("{{ [1] | batch(n, 1) | list }}", "batch"),
        ("{# " + "a" * 2**20 + " #}", "characters"),
    ],
)
def test_a_step_without_a_bound_is_named(template: str, named: str) -> None:
    with pytest.raises(TemplateUnbounded, match=named):
        within_limits(template, lambda: pytest.fail("it ran"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "COMPUTING_S", 0.2)
    monkeypatch.setattr(template_limits, "MEMORY_BYTES", 2**27)


def rendered(template: str) -> str:
    return within_limits(template, ImmutableSandboxedEnvironment().from_string(template).render)


@pytest.mark.usefixtures("quick")
def test_a_loop_is_ended() -> None:
    with pytest.raises(TemplateUnbounded, match="seconds"):
        rendered(LOOPS)
    assert rendered("{{ 1 + 1 }}") == "2"


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
def test_a_text_that_doubles_is_ended() -> None:
    grow = "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    with pytest.raises(TemplateUnbounded, match="GiB"):
        rendered("{% set n = namespace(x='a') %}" + grow)


@pytest.mark.usefixtures("quick")
def test_only_the_thread_that_renders_is_ended() -> None:
    ended: list[str] = []

    def other() -> None:
        with pytest.raises(TemplateUnbounded):
            rendered(LOOPS)
        ended.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    while thread.is_alive():
        assert rendered("{{ 'ok' }}") == "ok"
    assert ended == ["other"]


def test_a_long_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_limits, "MOST_WRITTEN", 10)
    assert rendered("0123456789") == "0123456789"
    with pytest.raises(TemplateUnbounded, match="11 characters"):
        rendered("0123456789!")
