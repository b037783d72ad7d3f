"""What an image name means."""

import pytest

from mizzen.embedded import images
from mizzen.embedded.images import Command, Function, find, program_folders, resolve, spellings

A, B, C = Command(entrypoint=["a"]), Command(entrypoint=["b"]), Command(entrypoint=["c"])


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("web", ["web", "web:latest", "docker.io/library/web:latest"]),
        ("web:1", ["web:1", "web:1", "docker.io/library/web:1"]),
        ("me/web:1", ["me/web:1", "me/web:1", "docker.io/me/web:1"]),
        ("localhost:5000/web", ["localhost:5000/web", "localhost:5000/web:latest"]),
        ("ghcr.io/me/web@sha256:abc", ["ghcr.io/me/web@sha256:abc", "ghcr.io/me/web:latest"]),
    ],
)
def test_spellings(image, names):
    assert spellings(image) == names


def test_the_most_literal_glob_wins():
    table = {"*": A, "*/web:*": B, "docker.io/*/web:1": C}
    assert find("me/web:1", table) == C
    assert find("me/web:2", table) == B
    assert find("other", table) == A
    assert find("other", {"web:*": A}) is None


def test_the_users_word_comes_first():
    assert resolve("docker.io/istio/proxyv2:1.30", {"*": A}, images.BUILTIN) == A
    assert isinstance(resolve("docker.io/istio/proxyv2:1.30", {}, images.BUILTIN), Function)
    assert isinstance(resolve("gcr.io/istio-testing/pilot:latest", {}, images.BUILTIN), Function)


def test_saving_and_loading(tmp_path):
    path = tmp_path / "state" / "images.json"
    assert images.load(path) == {}
    table = {"my-app:*": Command(entrypoint=["python", "app.py"], workdir="/srv", env={"A": "1"})}
    images.save(path, table)
    assert images.load(path) == table


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "images.json"
    path.write_text('{"x": 1}')
    with pytest.raises(ValueError, match=r"images\.json"):
        images.load(path)


def test_the_folders_that_a_program_needs(tmp_path):
    """A virtual environment in a private home, whose interpreter is elsewhere in it."""
    base, venv, app = tmp_path / "pyenv/3.12", tmp_path / "venvs/app", tmp_path / "src/app"
    for folder in (base / "bin", base / "lib", venv / "bin", venv / "lib", app, tmp_path / "bin"):
        folder.mkdir(parents=True)
    (base / "bin/python3.12").touch()
    (venv / "bin/python").symlink_to(base / "bin/python3.12")

    def folders(program):
        return program_folders(Command(entrypoint=[program, "app.py"], workdir=str(app)))

    assert folders(str(venv / "bin/python")) == [venv, base]
    assert folders(str(tmp_path / "bin/tool")) == [tmp_path / "bin"]
    assert folders("python3") == folders("/usr/bin/python3") == folders("./run.sh") == []
