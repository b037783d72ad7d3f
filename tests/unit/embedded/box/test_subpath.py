"""Places within a volume: links stay inside of it."""

import os
import stat
from pathlib import Path

import pytest

from mizzen.embedded.box.subpath import open_beneath


@pytest.fixture
def volume(tmp_path):
    found = tmp_path / "volume"
    (found / "folder").mkdir(parents=True)
    (found / "folder" / "file").write_text("inside")
    found.chmod(0o750)
    (tmp_path / "secret").write_text("outside")
    return found


def reached(volume, below, **options):
    descriptor = open_beneath(volume, below, **options)
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


def test_folders_files_and_links_within(volume):
    (volume / "link").symlink_to("folder")
    assert reached(volume, "folder") == reached(volume, "link") == volume / "folder"
    assert reached(volume, "link/file") == volume / "folder" / "file"


@pytest.mark.parametrize("target", ["/", "/etc", "..", "../secret", "folder/../../secret", "link"])
@pytest.mark.parametrize("make", [False, True])
def test_no_link_leads_out_and_nothing_is_made_there(volume, target, make):
    (volume / "link").symlink_to(target)
    for below in ("link", "link/new"):
        with pytest.raises(OSError, match=r"leads out|Symlink loop|Too many levels|has become a link"):
            open_beneath(volume, below, make=make)
    assert sorted(each.name for each in volume.parent.iterdir()) == ["secret", "volume"]


def test_a_link_that_comes_between_is_not_followed(volume, monkeypatch):
    """What was resolved a moment ago may have been replaced since."""
    monkeypatch.setattr(Path, "resolve", lambda self: self)
    (volume / "swapped").symlink_to("/etc")
    for below in ("swapped", "swapped/passwd"):
        with pytest.raises(OSError, match="has become a link"):
            open_beneath(volume, below)


def test_what_is_missing_is_made_with_the_volumes_rights(volume):
    with pytest.raises(FileNotFoundError):
        open_beneath(volume, "new/deep")
    assert reached(volume, "new/deep", make=True) == volume / "new" / "deep"
    assert [stat.S_IMODE(each.stat().st_mode) for each in (volume / "new", volume / "new/deep")] == [0o750] * 2
