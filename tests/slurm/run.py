"""Part of profile tiny through a real Slurm on this machine, a killed job and a training on two
nodes included: `make test-slurm`.

Starts munged, slurmctld and two slurmd (two nodes, both of them this machine) in a folder of its
own and ends them again; no Slurm that may run here is touched. Does nothing where Slurm is not
installed (Debian and Ubuntu: slurm-wlm, munge).
"""

import contextlib
import getpass
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scancel", "squeue", "sinfo", "sacct", "sacctmgr", "scontrol")
PROGRAMS = ("munged", "slurmctld", "slurmd", *COMMANDS)
TARGET = "verbs-cvrl-maskpred"  # with all that it rests on: data, two pretrainings, features
KILLED = "backbone-cvrl"
NODES = ("one", "two")
HIERMOVIE = str(Path(sys.executable).parent / "hiermovie")

CONF = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=600
KillWait=2
NodeName=one NodeHostname={host} NodeAddr={host} Port={one} CPUs=2 RealMemory=64000
NodeName=two NodeHostname={host} NodeAddr={host} Port={two} CPUs=2 RealMemory=64000
PartitionName=both Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# no waiting as on a real cluster
PROFILE = """
executor: slurm
jobs: 4
latency-wait: 30
seconds-between-status-checks: 2
slurm-init-seconds-before-status-checks: 2
slurm-status-command: squeue
default-resources: [slurm_account=test, slurm_partition=both]
"""

TWO_NODES = """
resources: {backbone: {nodes: 2, cores: 1}}
runs:
  data: {stage: 00_data, kinetics: [12, 4], movieclips: 2, vidsitu: [2, 2], lvu: [2, 1, 1]}
  backbone: {stage: 10_pretrain_backbone, data_run: data, nodes: NODES, size: 32, batch: 4}
"""


def free_ports(n: int) -> list:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(n)]
        for s in found:
            s.bind(("", 0))
        return [s.getsockname()[1] for s in found]


@contextlib.contextmanager
def daemon(argv: list, env: dict, log: Path):
    with open(log, "w") as said:
        process = subprocess.Popen(argv, env=env, stdout=said, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()


def write_configuration(folder: Path) -> dict:  # environment in which Slurm's programs find it
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    port, one, two = free_ports(3)
    names = dict(host=host, port=port, one=one, two=two, folder=folder, user=getpass.getuser())
    (folder / "slurm.conf").write_text(CONF.format(**names))
    (folder / "bin").mkdir()
    for name in COMMANDS:  # jobs do not get SLURM_CONF: elsewhere it is where Slurm looks by itself
        script = folder / "bin" / name
        script.write_text(
            f'#!/bin/sh\nSLURM_CONF="{folder}/slurm.conf" exec {shutil.which(name)} "$@"\n'
        )
        script.chmod(0o755)
    (folder / "cluster").mkdir()
    (folder / "cluster" / "config.yaml").write_text(PROFILE)
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    return dict(os.environ, SLURM_CONF=str(folder / "slurm.conf"), PATH=path, OMP_NUM_THREADS="1")


def wait_for(what: str, ready, seconds: float = 60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = ready()
        if found:
            return found
        time.sleep(0.3)
    raise SystemExit(f"failed: waited {seconds:.0f} s for {what}")


def told(argv: list, env: dict) -> str:
    return subprocess.run(argv, env=env, capture_output=True, text=True).stdout


@contextlib.contextmanager
def slurm(folder: Path):
    "Two nodes that take jobs; yields the environment in which they are found."
    env = write_configuration(folder)
    files = [f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    files += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log"]
    munged = ["munged", "--foreground", "--force", f"--seed-file={folder}/munge.seed", *files]
    with contextlib.ExitStack() as stack:
        stack.enter_context(daemon(munged, env, folder / "munged.out"))
        wait_for("munged", (folder / "munge.socket").exists)
        stack.enter_context(daemon(["slurmctld", "-D", "-c"], env, folder / "slurmctld.out"))
        for node in NODES:
            argv = ["slurmd", "-D", "-N", node]
            stack.enter_context(daemon(argv, env, folder / f"slurmd-{node}.out"))
        idle = ["sinfo", "--noheader", "--Node", "--format=%N %t"]
        wait_for("two idle nodes", lambda: told(idle, env).count("idle") == len(NODES))
        yield env


def reproduce(out: Path, env: dict, *more: str) -> subprocess.Popen:
    argv = [HIERMOVIE, "reproduce", "--out", str(out), *more]
    return subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen, code: int) -> str:
    printed, _ = process.communicate(timeout=900)
    if process.returncode != code:
        raise SystemExit(f"failed: exit code {process.returncode}, not {code}:\n{printed}")
    return printed


def job_at_work(name: str, env: dict) -> str:  # its number; empty: none
    jobs = told(["squeue", "--noheader", "--states=RUNNING", "--format=%i %k"], env).splitlines()
    return next((j.split()[0] for j in jobs if j.split()[1:] == [f"rule_{name}"]), "")


def numbers(out: Path) -> dict:  # run -> its metrics
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(out.glob("*/metrics.json"))}


def tiny_as_without(folder: Path, env: dict) -> None:
    "A job is killed, the command tells it, goes on when it is given again, and nothing differs."
    here, there = folder / "here", folder / "there"
    finish(reproduce(here, env, "--profile", "tiny", TARGET), 0)
    sent = ("--profile", "tiny", "--cluster", str(folder / "cluster"), TARGET)
    first = reproduce(there, env, *sent)
    job = wait_for(f"the job of {KILLED}", lambda: job_at_work(KILLED, env), 300)
    subprocess.run(["scancel", "--signal=KILL", "--full", job], env=env, check=True)
    printed = finish(first, 1)
    assert f"failed: {KILLED}" in printed, printed
    finish(reproduce(there, env, *sent), 0)
    assert numbers(here) == numbers(there) != {}, "other metrics through Slurm"
    print(f"{len(numbers(here))} runs of tiny: the same metrics through Slurm, one killed job")


def two_nodes_as_one(folder: Path, env: dict) -> None:
    "A training on two nodes, one process on each, against two processes on one node."
    for name, nodes, processes in (("alone", 1, 2), ("together", 2, 1)):
        text = TWO_NODES.replace("NODES", f"{nodes}, processes: {processes}")
        text = text.replace("nodes: 2", f"nodes: {nodes}")
        (folder / f"{name}.yaml").write_text(text)
        sent = ("--profile", str(folder / f"{name}.yaml"), "--cluster", str(folder / "cluster"))
        finish(reproduce(folder / name, env, *sent), 0)
    losses = [numbers(folder / name)["backbone"]["last_loss"] for name in ("alone", "together")]
    assert losses[0] == losses[1], losses
    print(f"two nodes through srun and torchrun: loss {losses[1]:.6f}, the same as on one")


def main() -> None:
    missing = [p for p in PROGRAMS if not shutil.which(p)]
    if missing:
        print(f"skipped: Slurm is not installed here, there is no {missing[0]} (slurm-wlm, munge)")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # daemons end with this program
    with (
        tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder,
        slurm(Path(folder)) as env,
    ):
        tiny_as_without(Path(folder), env)
        two_nodes_as_one(Path(folder), env)


if __name__ == "__main__":
    main()
