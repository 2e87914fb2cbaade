"""The rules that make a role of a host part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imds_proxy_providers.role_rules import PatternRule, PatternSettings, hostname, loctyp
from pydantic import ValidationError

HOST = st.one_of(
    st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", fullmatch=True),
    st.from_regex(r"(ber|ham|tuv|pro)[a-z]{3}[0-9]{1,3}", fullmatch=True),
)

SEED_SCHEME = PatternRule(
    PatternSettings(
        pattern="(?P<loc>.{3})(?P<typ>.{3}).{2}",
        role="{loc}{typ}",
        maps={"loc": {"ber": "pro", "ham": "pro"}},
    )
)


@pytest.mark.parametrize(
    ("host", "role"),
    [
        ("tuvfoo42", "tuvfoo"),
        ("berbar07", "probar"),
        ("hambar07", "probar"),
        ("tuvber07", "tuvber"),
        ("probar07", "probar"),
        ("tuvfoo4", None),
        ("tuvfoo421", None),
        ("ber", None),
        ("", None),
    ],
)
def test_loctyp(host: str, role: str | None) -> None:
    """Eight characters: location and type; ber and ham are production; any other length has no role."""
    assert loctyp(host) == role


def test_hostname() -> None:
    """The whole host part is the role."""
    assert hostname("db-7") == "db-7"


@given(HOST)
def test_the_seeds_scheme_as_a_pattern(host: str) -> None:
    """Written as a pattern with a value map, loctyp gives every host the same role."""
    assert SEED_SCHEME(host) == loctyp(host)


@pytest.mark.parametrize(
    ("pattern", "role", "host", "expected"),
    [
        (r"proj-(?P<svc>[a-z0-9]+)-\d+", "{svc}", "proj-web-1", "web"),
        (r"proj-(?P<svc>[a-z0-9]+)-\d+", "{svc}", "proj-web-1x", None),
        (r"proj-(?P<svc>[a-z0-9]+)-\d+", "{svc}", "xproj-web-1", None),
        (r"proj-(?P<svc>[a-z0-9]+)-\d+", "{svc}", "proj-web-\u0661", None),
        (r"(?P<a>web)|(?P<b>db)", "x-{a}", "web", "x-web"),
        (r"(?P<a>web)|(?P<b>db)", "x-{a}", "webdb", None),
        (r"(?P<a>web)|(?P<b>db)", "x-{a}", "db", None),
        (r"(?P<a>[a-z]+)(-(?P<b>[a-z]+))?", "{a}.{b}", "web-db", "web.db"),
        (r"(?P<a>[a-z]+)(-(?P<b>[a-z]+))?", "{a}.{b}", "web", None),
        (r"(?P<a>.)(?P<b>.)", "{b}{a}{b}", "xy", "yxy"),
        (r"(?P<a>x?)y", "{a}", "y", ""),
        (r"(?i)(?P<a>WEB)\d", "{a}", "web1", "web"),
    ],
)
def test_patterns(pattern: str, role: str, host: str, expected: str | None) -> None:
    """A pattern matches the whole host part; a group of the template that took no part means no role."""
    assert PatternRule(PatternSettings(pattern=pattern, role=role))(host) == expected


def test_a_last_newline_does_not_match() -> None:
    """`$` in a pattern would take a newline at the end: the match in full does not."""
    assert PatternRule(PatternSettings(pattern="(?P<a>web)$", role="{a}"))("web\n") is None


@pytest.mark.parametrize(("host", "role"), [("ber-db", "pro-db"), ("tuv-db", "tuv-db"), ("ham-db", "-db")])
def test_maps(host: str, role: str) -> None:
    """A value in the map becomes another, perhaps nothing; one that is not in it stays."""
    rule = PatternRule(
        PatternSettings(
            pattern="(?P<loc>...)-(?P<typ>..)", role="{loc}-{typ}", maps={"loc": {"ber": "pro", "ham": ""}}
        )
    )
    assert rule(host) == role


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        ({"pattern": "(", "role": "{a}"}, "pattern", "not a regular expression: missing )"),
        ({"pattern": "(?P<a>.)(?P<a>.)", "role": "{a}"}, "pattern", "redefinition of group name 'a'"),
        ({"pattern": "(?u)(?P<a>.)", "role": "{a}"}, "pattern", "not a regular expression"),
        ({"pattern": "(?P<a>.{99999999999999})", "role": "{a}"}, "pattern", "not a regular expression"),
        ({"pattern": "(.)", "role": "{a}"}, "pattern", "no named group"),
        ({"pattern": "(?P<a>.)", "role": "{b}"}, "role", "no group 'b'; it has: a"),
        ({"pattern": "(?P<a>.)(.)", "role": "{1}"}, "role", "no group '1'"),
        ({"pattern": "(?P<a>.)", "role": "{}"}, "role", "no group ''"),
        ({"pattern": "(?P<a>.)", "role": "{a!r}"}, "role", "no group 'a!r'"),
        ({"pattern": "(?P<a>.)", "role": "{a.x}"}, "role", "no group 'a.x'"),
        ({"pattern": "(?P<a>.)", "role": "{a"}, "role", "brace"),
        ({"pattern": "(?P<a>.)", "role": "a}"}, "role", "brace"),
        ({"pattern": "(?P<a>.)", "role": "{{a}}"}, "role", "brace"),
        ({"pattern": "(?P<a>.)", "role": "same"}, "role", "every host would get one role"),
        ({"pattern": "(?P<a>.)", "role": ""}, "role", "every host would get one role"),
        ({"pattern": "(?P<a>.)", "role": "x/{a}"}, "role", "'x/' can't be part of a role name"),
        ({"pattern": "(?P<a>.)", "role": "{a} "}, "role", "can't be part of a role name"),
        ({"pattern": "(?P<a>.)", "role": "{a}", "maps": {"b": {}}}, "maps", "no group 'b'"),
        ({"pattern": "(?P<a>.)", "role": "{a}", "maps": {"a": {"x": "y/z"}}}, "maps", "'y/z' can't be part"),
        ({"pattern": "(?P<a>.)", "role": "{a}", "map": {}}, "map", "not permitted"),
        ({"role": "{a}"}, "pattern", "required"),
        ({"pattern": "(?P<a>.)"}, "role", "required"),
    ],
)
def test_faults_in_a_pattern(settings: dict[str, object], key: str, text: str) -> None:
    """Each fault is found when the settings are read, at its key, in words."""
    with pytest.raises(ValidationError) as error:
        PatternSettings.model_validate(settings)
    faults = {str(fault["loc"][0]): fault["msg"] for fault in error.value.errors()}
    assert text in faults[key]


def test_one_fault_does_not_bring_another() -> None:
    """A pattern that does not compile is one fault: its groups are not missed in role and maps too."""
    with pytest.raises(ValidationError) as error:
        PatternSettings.model_validate({"pattern": "(", "role": "{a}", "maps": {"a": {}}})
    assert [fault["loc"] for fault in error.value.errors()] == [("pattern",)]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=10), HOST)
def test_any_settings_are_faulty_or_work(pattern: str, literal: str, group: str, host: str) -> None:
    """Whatever stands in the settings is a fault or a rule that answers; nothing else is raised."""
    for text in (pattern, f"(?P<{group}>{pattern})"):
        try:
            settings = PatternSettings(pattern=text, role=f"{literal}{{{group}}}")
        except ValidationError:
            continue
        role = PatternRule(settings)(host)
        assert role is None or role.startswith(literal)
