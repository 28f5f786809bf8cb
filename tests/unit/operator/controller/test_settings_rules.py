"""Settings from environment and flags."""

import pytest

from r1_operator.settings import BadSetting, OperatorSettings


def test_default_settings_are_valid() -> None:
    settings = OperatorSettings.load([], {})
    assert settings.http_port == 8080
    assert settings.namespaces == ()
    assert settings.identity


def test_two_processes_with_one_name_have_distinct_identities() -> None:
    given = {"R1_IDENTITY": "pod-a"}
    one, two = OperatorSettings.load([], given), OperatorSettings.load([], given)
    assert one.identity != two.identity
    assert one.identity.rpartition("_")[0] == "pod-a"


def test_a_flag_wins_over_the_environment() -> None:
    settings = OperatorSettings.load(["--http-port", "9000"], {"R1_HTTP_PORT": "8000"})
    assert settings.http_port == 9000


def test_lists_and_booleans() -> None:
    environment = {"R1_NAMESPACES": "a, b", "R1_SERVICE_MONITORS": "false", "R1_DEV": "1"}
    settings = OperatorSettings.load([], environment)
    assert settings.namespaces == ("a", "b")
    assert settings.service_monitors is False
    assert settings.dev is True
    assert OperatorSettings.load(
        ["--namespace", "x", "--namespace", "y", "--dev"], {}
    ).namespaces == (
        "x",
        "y",
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"R1_HTTP_PORT": "many"}, "R1_HTTP_PORT"),
        ({"R1_DEV": "perhaps"}, "R1_DEV"),
        ({"R1_GATEWAY_SERVICE": "gateway"}, "R1_GATEWAY_SERVICE"),
        ({"R1_LEASE_SECONDS": "6", "R1_RENEW_SECONDS": "5"}, "R1_LEASE_SECONDS"),
        ({"R1_WORKERS": "0"}, "R1_WORKERS"),
        ({"R1_RELIST_SECONDS": "-1"}, "R1_RELIST_SECONDS"),
    ],
)
def test_an_invalid_setting_is_named_in_the_error(environment: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        OperatorSettings.load([], environment)
