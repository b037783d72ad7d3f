"""The user's kubeconfig: ours comes and goes, the rest stays."""

import pytest
import yaml

from mizzen.embedded.kubeconfig import Entry, KubeconfigError, merge_into, merged, remove_from, without

ENTRY = Entry("mizzen", {"server": "https://127.0.0.1:1"}, {"token": "t"})
WORK = {
    "apiVersion": "v1",
    "kind": "Config",
    "preferences": {"colors": True},
    "clusters": [{"name": "work", "cluster": {"server": "https://work", "insecure-skip-tls-verify": True}}],
    "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
    "users": [{"name": "me", "user": {"token": "2020-01-01"}}],
    "current-context": "work",
}


def test_added_and_made_current():
    result = merged(WORK, ENTRY)
    assert result["current-context"] == "mizzen"
    assert result["clusters"][0] == WORK["clusters"][0]
    assert result["contexts"][1]["context"] == {"cluster": "mizzen", "user": "mizzen", "namespace": "default"}
    again = merged(result, Entry("mizzen", {"server": "https://127.0.0.1:2"}, {}))
    assert [each["name"] for each in again["clusters"]] == ["work", "mizzen"]


def test_removed_and_the_previous_context_is_back():
    assert without(merged(WORK, ENTRY), "mizzen", "work") == WORK
    assert without(merged(WORK, ENTRY), "mizzen", "gone")["current-context"] == ""
    chosen = {**merged(WORK, ENTRY), "current-context": "work"}
    assert without(chosen, "mizzen", "")["current-context"] == "work"


def test_a_namesake_that_is_not_ours_is_left_alone():
    foreign = {**WORK, "clusters": [{"name": "mizzen", "cluster": {"server": "https://elsewhere"}}]}
    with pytest.raises(KubeconfigError, match="rename"):
        merged(foreign, ENTRY)
    assert without(foreign, "mizzen") is foreign


def test_the_file(tmp_path):
    path = tmp_path / "kube" / "config"
    assert merge_into(path, ENTRY) == ""
    assert path.stat().st_mode & 0o777 == 0o600
    assert remove_from(path, "mizzen")
    assert not remove_from(path, "mizzen")
    assert not list(path.parent.glob("*.lock"))


def test_a_linked_file_stays_a_link_and_values_stay_as_they_were(tmp_path):
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text(yaml.safe_dump(WORK).replace("'2020-01-01'", "2020-01-01"))
    link.symlink_to(real)
    assert merge_into(link, ENTRY) == "work"
    assert link.is_symlink()
    assert remove_from(link, "mizzen", "work")
    assert yaml.safe_load(real.read_text()) == WORK


def test_what_is_no_kubeconfig_is_refused(tmp_path):
    path = tmp_path / "config"
    path.write_text("- 1\n")
    with pytest.raises(KubeconfigError, match="not a kubeconfig"):
        merge_into(path, ENTRY)
