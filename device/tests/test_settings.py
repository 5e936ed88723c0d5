"""Settings: four layers, each value checked where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit_device.contract.ack import Ack, merge_ranges
from edgekit_device.contract.errors import FieldError, SchemaError, SettingsError, UsageError
from edgekit_device.publish.broker_url import BrokerAddress, parse_broker_url
from edgekit_device.settings import DeviceSettings, device_toml, load_settings, read_device_toml

BOOT = "9f" * 16


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "device.toml"


def test_flag_beats_environment_beats_file_beats_default(toml: Path) -> None:
    toml.write_text('site = "file"\nid = "file"\ninterval_s = 5\n')
    environ = {"EDGEKIT_SITE": "env", "EDGEKIT_ID": "env", "EDGEKIT_THREADS": "2", "EDGEKIT_BROKER": ""}
    settings = load_settings(toml, environ, {"site": "flag", "delegate": None})
    assert (settings.site, settings.id, settings.interval_s) == ("flag", "env", 5.0)
    assert (settings.threads, settings.delegate, settings.broker) == (2, "auto", None)
    assert isinstance(settings.interval_s, float)


def test_without_any_layer_the_defaults_are_valid() -> None:
    settings = load_settings(Path("/nowhere/device.toml"), {}, {})
    assert settings == DeviceSettings()
    device_toml(vars(settings))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("interval = 3", "unknown setting 'interval'; did you mean 'interval_s'"),
        ("sight = 'home'", "did you mean 'site'"),
        ("interval_s = '3'", "must be a number, found str"),
        ("interval_s = nan", "must lie in"),
        ("interval_s = 0", "must lie in"),
        ("threads = true", "must be a whole number, found bool"),
        ("threads = 1.5", "must be a whole number"),
        ("id = 'Front Porch'", "id 'Front Porch' is not allowed"),
        ("delegate = 'gpu'", "must be one of auto, edgetpu"),
        ("broker = 'http://x'", "must start with mqtt://"),
        ("updates = 'ftp://x/'", "write it like https://"),
        ("updates = 'https://user:word@x/'", "write it like https://"),
        ("site = ", "is not TOML"),
        ("[broker]\nurl = 1", "'broker' must be text, found dict"),
    ],
)
def test_a_wrong_file_is_refused_with_key_and_remedy(toml: Path, text: str, problem: str) -> None:
    toml.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(toml)
    assert problem in str(caught.value)
    assert str(toml) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="EDGEKIT_INTERVAL_S"):
        load_settings(environ={"EDGEKIT_INTERVAL_S": "often"})


def test_what_is_written_is_what_is_read(toml: Path) -> None:
    values = {"site": "home", "interval_s": 1.0, "source": 'video:/a "b"\\ü😀.mp4', "threads": 2, "preview": None}
    toml.write_text(device_toml(values), encoding="utf-8")
    assert read_device_toml(toml) == {key: value for key, value in values.items() if value is not None}


def test_broker_urls() -> None:
    assert parse_broker_url("mqtt://127.0.0.1") == BrokerAddress("127.0.0.1", 1883, tls=False)
    assert parse_broker_url("mqtts://b.example.org/") == BrokerAddress("b.example.org", 8883, tls=True)
    assert parse_broker_url("mqtt://[::1]:99").url == "mqtt://[::1]:99"


@pytest.mark.parametrize(
    "url", ["", "localhost", "localhost:1883", "tcp://x:1", "mqtt://", "mqtt://x:0", "mqtt://x:70000", "mqtt://x/y",
            "mqtt://x?a=1", "mqtt://[::1", "mqtt://a b", "mqtt://:1883"],
)  # fmt: skip
def test_a_wrong_broker_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(UsageError, match="write it like mqtt://"):
        parse_broker_url(url)


def test_a_password_in_a_broker_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="does not belong in a URL") as caught:
        parse_broker_url("mqtt://user:secret@host")
    assert "secret" not in str(caught.value)


def test_acks_merge_by_union_and_survive_the_wire() -> None:
    one, other = Ack({BOOT: ((0, 4), (8, 9))}), Ack({BOOT: ((5, 5),), "0" * 32: ((1, 1),)})
    both = Ack.from_bytes(one.union(other).to_bytes())
    assert both.stored == {BOOT: ((0, 5), (8, 9)), "0" * 32: ((1, 1),)}
    assert both.to_bytes() == b'{"schema":1,"stored":{"%s":[[1,1]],"%s":[[0,5],[8,9]]}}' % (b"0" * 32, BOOT.encode())
    assert [seq for seq in range(12) if both.covers(BOOT, seq)] == [0, 1, 2, 3, 4, 5, 8, 9]
    assert not both.covers("f" * 32, 1)


def test_ranges_in_any_order_are_read_and_wrong_ones_refused() -> None:
    text = '{"schema":1,"new":7,"stored":{"%s":%s}}'
    ack = Ack.from_bytes((text % (BOOT, "[[7,9],[0,3],[2,5]]")).encode())
    assert ack.stored[BOOT] == ((0, 5), (7, 9))
    assert b'"new":7' in ack.to_bytes()
    for wrong in ("[[3,1]]", "[[-1,1]]", "[[1]]", "[1]", "{}", "[[0,9007199254740992]]", "[[true,1]]", "[[0.5,1]]"):
        with pytest.raises(FieldError):
            Ack.from_bytes((text % (BOOT, wrong)).encode())
    with pytest.raises(FieldError, match="not 32 hex digits"):
        Ack.from_bytes((text % ("Z" * 32, "[]")).encode())
    with pytest.raises(SchemaError):
        Ack.from_bytes(b'{"schema":2,"stored":{}}')


def test_ranges_that_touch_become_one() -> None:
    assert merge_ranges([(5, 6), (0, 1), (2, 4), (8, 8)]) == ((0, 6), (8, 8))
