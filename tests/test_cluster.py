"""The recipes for clusters: scripts that a shell and shellcheck accept, a manifest whose numbers go together."""

import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from profit_jax.federated.mesh import axis_sizes

CLUSTER = Path(__file__).parents[1] / "launch" / "cluster"
CHIPS_A_HOST = 4  # of a v5e slice of several hosts


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda script: script.name)
def test_scripts_are_sound_shell(script):
    for checker in (["bash", "-n"], [Path(sys.executable).with_name("shellcheck")]):
        done = subprocess.run([*checker, str(script)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_asks_for_the_slice_that_its_mesh_fills():
    jobset = yaml.safe_load((CLUSTER / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (hosts,) = jobset["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    assert job["parallelism"] == job["completions"] == chips // CHIPS_A_HOST
    assert container["resources"]["limits"]["google.com/tpu"] == CHIPS_A_HOST
    python, option, launcher, *flags = container["command"]
    assert (python, option) == ("python", "-m") and find_spec(launcher)
    given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    assert (CLUSTER.parents[1] / given["config"].split(":")[0]).is_file()
    assert math.prod(axis_sizes(given["mesh"], chips).values()) == chips
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
