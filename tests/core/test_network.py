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


@pytest.mark.parametrize(
    "look_up",
    [
        lambda: socket.getaddrinfo("example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.gethostbyname_ex("example.org"),
        lambda: socket.gethostbyaddr("127.0.0.1"),
        lambda: socket.getnameinfo(("127.0.0.1", 9), 0),
    ],
    ids=["getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"],
)
def test_offline_refuses_to_look_names_up(look_up):
    with pytest.raises(MissingError, match=REFUSED):
        look_up()


@pytest.mark.parametrize(
    "send",
    [
        lambda client, address: client.sendto(b"x", address),
        lambda client, address: client.sendto(b"x", 0, address),
        lambda client, address: client.sendmsg([b"x"], [], 0, address),
    ],
    ids=["sendto", "sendto with flags", "sendmsg"],
)
def test_offline_refuses_to_send_without_a_connection(send):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, pytest.raises(MissingError, match=REFUSED):
        send(client, ("127.0.0.1", 9))


def test_offline_allows_to_send_to_a_socket_of_the_file_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = (socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(*kind) as receiving, socket.socket(*kind) as client:
        receiving.bind("socket")
        client.sendto(b"one", "socket")
        client.sendmsg([b"two"], [], 0, "socket")
        client.connect("socket")
        client.sendmsg([b"three"])
        assert [receiving.recv(9) for _ in range(3)] == [b"one", b"two", b"three"]


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


@pytest.mark.parametrize("earlier", [None, "0", "1"])
def test_lifting_offline_restores_what_the_model_libraries_were_told(monkeypatch, earlier):
    refuse_network(False)
    if earlier is None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", earlier)

    refuse_network()
    refuse_network()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    refuse_network(False)
    refuse_network(False)
    assert os.environ.get("HF_HUB_OFFLINE") == earlier


def test_offline_tells_the_model_libraries(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    refuse_network()

    assert os.environ["HF_HUB_OFFLINE"] == "1"
