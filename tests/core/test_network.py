from __future__ import annotations

import os
import socket

import pytest

from prlm_cli.core.errors import MissingError
from prlm_cli.core.network import is_offline, refuse_network

REFUSED = r"a network connection was refused by --offline; .*`prlm pull`"


@pytest.fixture(autouse=True)
def offline():
    refuse_network()
    yield
    refuse_network(False)


@pytest.fixture
def server():
    """The address of a listening socket of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_offline_refuses_connections(server, method):
    with socket.socket() as client, pytest.raises(MissingError, match=REFUSED) as caught:
        getattr(client, method)(server)

    assert caught.value.exit_code == 3


def test_offline_refuses_what_libraries_connect_with(server):
    with pytest.raises(MissingError, match=REFUSED):
        socket.create_connection(server)


def test_offline_refuses_connections_over_ipv6():
    if not socket.has_ipv6:
        pytest.skip("NOT RUN: no IPv6 on this machine")
    with socket.socket(socket.AF_INET6) as client, pytest.raises(MissingError, match=REFUSED):
        client.connect(("::1", 9))


def test_offline_refuses_to_look_names_up():
    with pytest.raises(MissingError, match=REFUSED):
        socket.getaddrinfo("example.org", 443)


def test_offline_allows_sockets_of_the_file_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of such a socket must be short
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind("socket")
        listening.listen()
        client.connect("socket")
        accepted, _ = listening.accept()
        with accepted:
            client.sendall(b"here")
            assert accepted.recv(4) == b"here"


def test_offline_can_be_lifted_and_set_again(server):
    refuse_network(False)
    assert not is_offline()
    with socket.create_connection(server):
        pass

    refuse_network()
    assert is_offline()
    with socket.socket() as client, pytest.raises(MissingError, match=REFUSED):
        client.connect(server)


def test_offline_tells_the_model_libraries(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    refuse_network()

    assert os.environ["HF_HUB_OFFLINE"] == "1"
