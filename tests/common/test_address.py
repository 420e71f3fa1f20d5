import pytest

from client.config import ServerConfig
from common.address import join_address, split_address
from common.errors import ConfigError
from common.parsing import validated
from server.desk import Public
from server.home import Settings

GOOD = {
    "fed.example:9092": ("fed.example", 9092),
    "127.0.0.1:1": ("127.0.0.1", 1),
    "[::1]:9092": ("::1", 9092),
    "[2001:db8::5]:65535": ("2001:db8::5", 65535),
}


@pytest.mark.parametrize("text", GOOD)
def test_what_one_side_takes_all_take(text: str) -> None:
    assert split_address(text) == GOOD[text]
    assert join_address(*GOOD[text]) == text
    assert ServerConfig(address=text).address == text
    assert (Public(address=text).host, Public(address=text).port) == GOOD[text]
    assert Settings(name="small", address=text, operator="alice").host == GOOD[text][0]


@pytest.mark.parametrize(
    "text",
    [
        *("fed.example", "fed.example:", "fed.example:0", "fed.example:99999", ":9092"),
        *("fed.example:09092", "fed.example:+1", "::1:9092", "[::1]", "[::1]:0", "[fed]:9092"),
        *("[fe80::1%eth0]:9092", "fed example:9092", "https://fed:1", "fed/x:1", "fed.example:1\n"),
    ],
)
def test_what_one_side_refuses_all_refuse(text: str) -> None:
    settings = {"name": "small", "address": text, "operator": "alice"}
    for model, fields in ((ServerConfig, {"address": text}), (Public, {"address": text})):
        with pytest.raises(ConfigError, match="address"):
            validated(model.model_validate, fields, "file", ConfigError)
    with pytest.raises(ConfigError, match="address"):
        validated(Settings.model_validate, settings, "file", ConfigError)
    with pytest.raises(ValueError, match=r"."):
        split_address(text)
