#!/usr/bin/env bash
# A SLURM of one node on this machine, for the tests that submit jobs.
#   .ci/slurm.sh up      install it if needed (Debian, root), start it; says so and exits with 0 where it cannot
#   .ci/slurm.sh down    stop what `up` started
# No systemd, no cgroups, no accounting: enough for sbatch, squeue, scancel and scontrol. The node claims two GPUs, which
# are plain files. Ports, state and logs are its own; a SLURM that runs here already is left alone.
set -euo pipefail

home=${SLURM_TEST_HOME:-/var/tmp/nnunet-transformers-slurm}
marker='# written by .ci/slurm.sh of nnunet-transformers'

skip() {
    echo "SLURM tests will be skipped: $*" >&2
    exit 0
}

configure() {
    local cores memory gpu cgroups=disabled
    cores=$(nproc)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.8)}' /proc/meminfo)
    mkdir -p "$home"/{state,spool,log,run} /etc/slurm
    for gpu in 0 1; do touch "$home/gpu$gpu"; done
    # Before 23.02 there is no "disabled".
    [[ $(slurmctld -V) =~ \ 2[0-2]\. ]] && cgroups=cgroup/v1
    printf '%s\n' "$marker" "CgroupPlugin=$cgroups" >/etc/slurm/cgroup.conf
    [[ $cgroups == disabled ]] || echo 'CgroupAutomount=no' >>/etc/slurm/cgroup.conf
    printf '%s\n' "$marker" "Name=gpu File=$home/gpu[0-1]" >/etc/slurm/gres.conf
    cat >/etc/slurm/slurm.conf <<CONF
$marker
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile=$home/run/slurmctld.pid
SlurmdPidFile=$home/run/slurmd.pid
SlurmctldLogFile=$home/log/slurmctld.log
SlurmdLogFile=$home/log/slurmd.log
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
DefMemPerCPU=100
KillWait=5
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$cores Boards=1 SocketsPerBoard=1 CoresPerSocket=$cores ThreadsPerCore=1 RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=FORCE:4 State=UP
CONF
}

start_munge() {
    munge -n >/dev/null 2>&1 && return
    install -d -o munge -g munge -m 0755 /run/munge
    install -d -o munge -g munge -m 0711 /var/lib/munge
    install -d -o munge -g munge -m 0700 /var/log/munge /etc/munge
    if [[ ! -s /etc/munge/munge.key ]]; then
        head -c 128 /dev/urandom >/etc/munge/munge.key
        chown munge:munge /etc/munge/munge.key
        chmod 400 /etc/munge/munge.key
    fi
    runuser -u munge -- /usr/sbin/munged
    touch "$home/run/munge-is-ours"
}

answers() { sinfo --noheader --format=%T 2>/dev/null | grep -Eq 'idle|mixed|allocated'; }

up() {
    if answers; then
        echo 'SLURM answers already.' >&2
        return
    fi
    [[ $(id -u) == 0 ]] || skip 'no SLURM answers, and only root can install one.'
    if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
        command -v apt-get >/dev/null || skip 'no SLURM answers, and there is no apt-get to install one.'
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge; } \
            >/dev/null 2>&1 || skip 'apt-get cannot install slurm-wlm and munge.'
    fi
    if [[ -e /etc/slurm/slurm.conf ]] && ! grep -qF "$marker" /etc/slurm/slurm.conf; then
        skip '/etc/slurm/slurm.conf is of a SLURM that does not answer; it is left as it is.'
    fi
    configure
    start_munge || skip 'munge does not start.'
    unset SLURM_CONF
    slurmctld && slurmd -N localhost || skip "SLURM does not start, see $home/log."
    for _ in {1..100}; do
        if answers; then
            echo "SLURM $(sinfo --version | cut -d' ' -f2) runs on this machine." >&2
            return
        fi
        sleep 0.1
    done
    tail -n 20 "$home"/log/*.log >&2
    down
    skip "SLURM does not answer, see $home/log."
}

down() {
    local daemon
    for daemon in slurmd slurmctld; do
        if [[ -s $home/run/$daemon.pid ]]; then
            kill "$(cat "$home/run/$daemon.pid")" 2>/dev/null || true
        fi
    done
    if [[ -e $home/run/munge-is-ours && -s /run/munge/munged.pid ]]; then
        kill "$(cat /run/munge/munged.pid)" 2>/dev/null || true
        rm "$home/run/munge-is-ours"
    fi
}

case ${1-} in
    up) up ;;
    down) down ;;
    *)
        echo "usage: $0 up|down" >&2
        exit 2
        ;;
esac
