#!/bin/bash
# One machine as a whole SLURM cluster, from Debian's packages, below one folder: to try the batch on a cluster.
#
#     tests/cluster/one_node.sh up FOLDER        start what is not running
#     tests/cluster/one_node.sh up FOLDER gpu    the same with one pretended GPU that four jobs may share
#     tests/cluster/one_node.sh down FOLDER      cancel its jobs, stop what was started, remove FOLDER
#
# The daemons are munged (says who asks), slurmctld (the controller) and slurmd (the node). There is no slurmdbd: the
# profiles ask squeue for the states of jobs. Each daemon runs in a session of its own; FOLDER/pid names its process and
# FOLDER/log holds its log. They run as root, because slurmd starts jobs as their users. Outside FOLDER there is one
# link, /etc/slurm/slurm.conf, by which commands find the cluster; where that is another cluster's, the script refuses.
# Jobs that ask for too much are refused, and a job beyond its memory is killed, as on a lab's cluster.
# The GPU is a device file that works like /dev/null: it shows what jobs ask for and get, and computes nothing.

set -euo pipefail
VERB=${1:?up or down} DIR=$(realpath -m "${2:?a folder for the state of the cluster}") KIND=${3:-cpu}
PACKAGES="munge slurmctld slurmd slurm-client"
export SLURM_CONF=$DIR/slurm.conf
LINK=/etc/slurm/slurm.conf

fail() { echo "one_node.sh: $*" >&2; exit 1; }

running() {  # NAME: whether the process that this script started under that name still lives
    [ -f "$DIR/pid/$1" ] && [ "$(cat "/proc/$(cat "$DIR/pid/$1")/comm" 2>/dev/null)" = "$1" ]
}

start() {  # NAME COMMAND...: starts a daemon, unless it runs
    local name=$1 && shift
    running "$name" && return
    setsid "$@" >> "$DIR/log/$name" 2>&1 < /dev/null &
    echo $! > "$DIR/pid/$name"
}

stop() {  # NAME: ends a daemon, by force after 20 seconds
    running "$1" || return 0
    local pid && pid=$(cat "$DIR/pid/$1")
    kill "$pid"
    for _ in $(seq 200); do running "$1" || return 0; sleep 0.1; done
    kill -9 "$pid"
}

until_true() {  # WHAT COMMAND...: tries thirty times until the command succeeds
    local what=$1 && shift
    for _ in $(seq 30); do timeout 5 "$@" > /dev/null 2>&1 && return; sleep 0.5; done
    tail -n 5 "$DIR"/log/*"$what"* >&2
    fail "$what does not answer; its log is in $DIR/log, and ends as above"
}

install_packages() {
    local missing=()
    for package in $PACKAGES; do dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package"); done
    [ ${#missing[@]} -eq 0 ] && return
    echo "Installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "${missing[@]}" > /dev/null
}

write_configuration() {
    local host node gres=""
    host=$(hostname -s)
    node=$(slurmd -C | sed -n 's/^NodeName=[^ ]* //p')
    if [ "$KIND" = gpu ]; then
        gres="Gres=gpu:1,shard:4"
        [ -e "$DIR/card0" ] || mknod -m 666 "$DIR/card0" c 1 3
        printf 'Name=gpu File=%s\nName=shard Count=4\n' "$DIR/card0" > "$DIR/gres.conf"
    else
        rm -f "$DIR/gres.conf"
    fi
    cat > "$DIR/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthInfo=socket=$DIR/munge.socket
StateSaveLocation=$DIR/controller
SlurmdSpoolDir=$DIR/node
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
SlurmdTimeout=20
KillWait=5
GresTypes=gpu,shard
NodeName=$host NodeAddr=127.0.0.1 $node $gres
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=500 MaxTime=1-0
END
}

up() {
    [ "$(id -u)" = 0 ] || fail "run it as root, on a machine where $PACKAGES may be installed and started"
    install_packages
    [ "$(readlink "$LINK")" = "$SLURM_CONF" ] || [ ! -e "$LINK" ] || fail "$LINK is another cluster's"
    ln -sfn "$SLURM_CONF" "$LINK"
    mkdir -p "$DIR"/{pid,log,controller,node}
    touch "$DIR/one_node"
    write_configuration
    [ -s "$DIR/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom > "$DIR/munge.key")
    start munged munged --foreground --key-file="$DIR/munge.key" --socket="$DIR/munge.socket" \
        --pid-file="$DIR/munge.pid" --log-file="$DIR/log/munge" --seed-file="$DIR/munge.seed"
    until_true munge munge --no-input --socket="$DIR/munge.socket"
    start slurmctld slurmctld -D
    until_true slurmctld scontrol ping
    start slurmd slurmd -D
    until_true slurmd sh -c 'sinfo --noheader --format=%T | grep -qE "^(idle|mixed|allocated|completing)$"'
}

down() {
    [ -e "$DIR/one_node" ] || fail "$DIR is not the folder of a cluster that this script started"
    if running slurmctld; then
        scancel --user=root || true
        for _ in $(seq 60); do [ -z "$(squeue --noheader)" ] && break; sleep 0.5; done
    fi
    for name in slurmd slurmctld munged; do stop "$name"; done
    [ "$(readlink "$LINK")" != "$SLURM_CONF" ] || rm "$LINK"
    rm -rf "$DIR"
}

case $VERB in
    up | down) "$VERB" ;;
    *) fail "up or down, not $VERB" ;;
esac
