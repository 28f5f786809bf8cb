"""Options of a service, from flags and environment variables."""

from __future__ import annotations

from typing import Any

import pytest

from r1_common.options import (
    InvalidOption,
    OptionParser,
    boolean,
    items,
    number,
    optional_path,
    whole_number,
)


def parser(environment: dict[str, str], **more: Any) -> OptionParser:
    made = OptionParser("R1_THING", environment, prog="thing", **more)
    made.add("--admin-port", 8081, "port of the administration, 100 % of it", whole_number)
    made.add("--share", 0.25, "share of a core", number)
    made.begin_group("more", "Further options.")
    made.add("--name", "", "name")
    made.add("--folder", None, "folder", optional_path)
    made.add("--namespace", (), "namespaces", items, repeated_as="namespaces")
    made.add_switch("--access-log", "log of requests", negatable=True)
    return made


def test_options_without_a_value_have_their_defaults() -> None:
    assert parser({}).parse([]) == {
        "admin_port": 8081,
        "share": 0.25,
        "name": "",
        "folder": None,
        "namespaces": (),
        "access_log": False,
    }


def test_a_flag_overrides_the_variable_which_overrides_the_default() -> None:
    environment = {"R1_THING_ADMIN_PORT": "1", "R1_THING_SHARE": "0.5", "R1_THING_ACCESS_LOG": "1"}
    values = parser(environment).parse(["--admin-port", "2"])
    assert (values["admin_port"], values["share"], values["access_log"]) == (2, 0.5, True)
    assert parser(environment).parse(["--no-access-log"])["access_log"] is False


def test_a_repeated_flag_and_a_variable_with_commas_give_the_same_list() -> None:
    by_flags = parser({}).parse(["--namespace", "a", "--namespace", "b"])
    by_variable = parser({"R1_THING_NAMESPACES": "a, b,"}).parse([])
    assert by_flags == by_variable
    assert by_flags["namespaces"] == ("a", "b")


def test_a_service_link_of_kubernetes_is_no_value() -> None:
    environment = {"R1_THING_ADMIN_PORT": "tcp://10.96.0.7:80"}
    assert parser(environment).parse([])["admin_port"] == 8081


def test_a_variable_without_text_is_a_value_unless_the_service_says_otherwise() -> None:
    with pytest.raises(InvalidOption, match="^R1_THING_ADMIN_PORT: "):
        parser({"R1_THING_ADMIN_PORT": ""}).parse([])
    values = parser({"R1_THING_ADMIN_PORT": ""}, empty_is_unset=True).parse([])
    assert values["admin_port"] == 8081


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({"R1_THING_ADMIN_PORT": "x"}, [], "^R1_THING_ADMIN_PORT: 'x' must be a whole number$"),
        ({"R1_THING_SHARE": "x"}, ["--share", "y"], "^--share: 'y' must be a number$"),
        ({"R1_THING_ACCESS_LOG": "perhaps"}, [], "^R1_THING_ACCESS_LOG: 'perhaps' must be true"),
    ],
)
def test_an_error_names_the_flag_or_the_variable_with_the_wrong_value(
    environment: dict[str, str], arguments: list[str], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        parser(environment).parse(arguments)


def test_an_invalid_option_ends_a_process_with_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser({}).parse_or_exit(["--admin-port", "x"])
    assert ended.value.code == 2
    assert "thing: error: --admin-port: 'x' must be a whole number" in capsys.readouterr().err


def test_help_shows_defaults_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser({}).parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "port of the administration, 100 % of it (default 8081)" in text
    assert "more: Further options." in text
    assert "name --folder" in text, "an empty default is not shown"


@pytest.mark.parametrize("text", ["true", "1", "YES", " on "])
def test_words_for_true(text: str) -> None:
    assert boolean(text) is True


@pytest.mark.parametrize("text", ["false", "0", "No", "off"])
def test_words_for_false(text: str) -> None:
    assert boolean(text) is False
