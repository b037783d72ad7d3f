"""What an agent makes of an answer of the CA, and of what the node tells it."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from mizzen.agent import certificates
from mizzen.agent.certificates import KeyPair, Told, signed_under_the_first, together
from mizzen.agent.sds import is_served
from mizzen.agent.settings import Paths
from mizzen.ca.authority import join, new_key, new_root, private_key_pem, sign_workload, signing_request
from mizzen.ca.spiffe import Identity

NOW = datetime.now(UTC)
OLD, NEW = (new_root("cluster.local", NOW, serial) for serial in (1, 2))
WEB = Identity("cluster.local", "default", "web")
KEY = new_key()


def pem(*roots):
    return join(root.certificate for root in roots).encode()


def chain(root):
    return list(sign_workload(root, signing_request(KEY, str(WEB)), WEB, NOW, timedelta(hours=1), 7))


def trusted(pair):
    return x509.load_pem_x509_certificates(pair.roots)


def test_the_last_element_of_an_answer_holds_the_roots():
    (leaf,) = chain(OLD)
    pair = certificates._pair(private_key_pem(KEY), [leaf, pem(OLD, NEW).decode()], pem(OLD))
    assert pair.chain.decode() == leaf
    assert trusted(pair) == [OLD.certificate, NEW.certificate]


def test_an_answer_without_roots_leaves_those_of_the_file():
    pair = certificates._pair(private_key_pem(KEY), chain(OLD), pem(OLD))
    assert trusted(pair) == [OLD.certificate]


@pytest.mark.parametrize(
    ("signer", "published", "fresh"),
    [(OLD, (OLD, NEW), True), (OLD, (NEW, OLD), False), (NEW, (NEW, OLD), True), (OLD, (), True)],
)
def test_the_first_root_is_the_one_of_who_signs_now(signer, published, fresh):
    pair = KeyPair(b"", "".join(chain(signer)).encode(), pem(OLD))
    assert signed_under_the_first(pair, pem(*published)) is fresh


def test_each_root_is_trusted_once_in_the_order_of_the_file():
    assert together(pem(NEW, OLD), pem(OLD), b"") == pem(NEW, OLD)


def test_files_that_are_not_there_say_nothing(tmp_path):
    paths = Paths(root_certificate=str(tmp_path / "no"), labels=str(tmp_path / "labels"))
    (tmp_path / "labels").write_text('app="web"')
    assert Told.read(paths) == Told(b"", b'app="web"')


def test_a_socket_that_was_left_behind_is_not_served(tmp_path):
    path = str(tmp_path / "socket")
    assert not is_served(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        assert not is_served(path)
        listener.listen()
        assert is_served(path)
    assert not is_served(path)
