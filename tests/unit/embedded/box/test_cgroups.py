"""Limits, written to folders that look like cgroups."""

from mizzen.embedded.box.cgroups import Limits, hierarchy


def test_version_two(tmp_path):
    (tmp_path / "cgroup.subtree_control").write_text("cpuset cpu io memory pids\n")
    found = hierarchy(tmp_path / "state", tmp_path)
    group = found.make("uid/web/0", Limits(memory=1024, cpu=0.5))
    top = next(tmp_path.glob("mizzen-*"))
    assert (top / "uid/web/0/memory.max").read_text() == "1024"
    assert (top / "uid/web/0/memory.oom.group").read_text() == "1"
    assert (top / "uid/web/0/cpu.max").read_text() == "50000 100000"
    for folder in (top, top / "uid", top / "uid/web"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert not (top / "uid/web/0/cgroup.subtree_control").exists()
    assert group.entrances == (str(top / "uid/web/0/cgroup.procs"),)
    assert group.oom_file.endswith("memory.events")


def test_version_one(tmp_path):
    for controller in ("memory", "cpu"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    group = hierarchy(tmp_path / "state", tmp_path).make("uid/web/0", Limits(memory=1024, cpu=0.001))
    limit = next(tmp_path.glob("memory/mizzen-*/uid/web/0/memory.limit_in_bytes"))
    assert limit.read_text() == "1024"
    assert next(tmp_path.glob("cpu/mizzen-*/uid/web/0/cpu.cfs_quota_us")).read_text() == "1000"
    assert len(group.entrances) == 2 and group.oom_file.endswith("memory.oom_control")


def test_without_limits_nothing_is_set(tmp_path):
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    found = hierarchy(tmp_path / "state", tmp_path)
    found.make("uid/web/0", Limits())
    assert [path.name for path in next(tmp_path.glob("mizzen-*/uid/web/0")).iterdir()] == []


def test_a_machine_without_controllers(tmp_path):
    (tmp_path / "cgroup.subtree_control").write_text("\n")
    assert hierarchy(tmp_path / "state", tmp_path) is None
