#!/usr/bin/env bash
#
# A real SLURM cluster of one node on this machine, in one command: to try things on a laptop,
# and for tests (a mocked scheduler knows nothing of dependencies, exit codes or signals).
#
#   local_cluster.sh install           install the Debian/Ubuntu packages it needs (with apt-get)
#   eval "$(local_cluster.sh up)"      start it and point this shell at it
#   sbatch --wrap 'hostname'; squeue; sacct
#   local_cluster.sh status            what is up, and how; exit status 0 if all of it is
#   local_cluster.sh down              end its jobs and its daemons
#
# Options
#   --dir FOLDER       all of the cluster (default ${XDG_STATE_HOME:-~/.local/state}/ns_bench/slurm)
#   --no-accounting    no slurmdbd and no MariaDB: `sacct` fails, as on clusters without accounting
#   --cpus N           CPUs the node claims, more than the machine has if you like (default: nproc)
#   --max-array N      MaxArraySize (default 1001, SLURM's own)
#   --min-job-age S    how long a finished job is remembered (default 300, SLURM's own). 2 is the
#                      smallest that SLURM recommends: the job is then gone after about 9 s
#   --kill-wait S      from SIGTERM to SIGKILL (default 5; SLURM's own is 30)
#   --requeue-delay S  how long a requeued job waits, in BeginTime, before it may start again
#                      (default 10, at least 5; SLURM's own is 120). It is the lifetime of a job's
#                      credential (AuthInfo=cred_expire), so a busy machine needs some of it
#
# `up` prints only the `export` line on stdout. It is idempotent: where the cluster is up already it
# starts what is missing, and refuses options other than those it was started with. It returns when
# the node takes jobs and, with accounting, `sacct` answers. Exit status: 0 up; 1 a daemon did not
# come up (its log's end is shown, what was started is ended again); 2 usage, or missing packages.
#
# Partitions: `debug` (the default one), and `preempt`, whose jobs are requeued when `debug` needs
# their CPUs.
#
# `down` cancels the jobs, ends the daemons that `up` started (a recorded process id counts only
# together with its start time) and what jobs of this cluster left running, and nothing else. The
# folder stays: with it the next `up` in it goes on with the job ids and the accounting records.
# Delete it when you no longer need them.
#
# Nothing outside the folder is touched. munge's socket is a private one in the folder, so a munged
# of the machine's own is neither used nor disturbed, and clusters in different folders live side by
# side. `sbatch` finds a private socket through AuthInfo; `sacct`, `sacctmgr` and slurmctld's
# connection to slurmdbd find it through AccountingStoragePass, which for munge is a socket's path.
# Ports are free ones. The SLURM daemons listen on all interfaces, and answer those who hold the
# folder's munge key: `NoInAddrAny` would bind them to whatever the host's name resolves to, which
# may be 127.0.1.1 (Debian's custom) or nothing. MariaDB has a socket in the folder and no port.
#
# As root, every user who can read the folder can run jobs. Without root all of it works too, but
# everything runs as you, and only your jobs can start (another user's, root's too, is held with
# "launch failed requeued held"). `install` alone needs root, or sudo. systemd is never needed.
#
# Accounting lags, as on large clusters: slurmctld sends what it knows of new jobs every 5 s. Until
# then plain `sacct` omits a job that has ended already, and `sacct -j` shows it as "allocation",
# without its name, and one element of an array as all of it. `squeue` knows at once.
#
# Measured with SLURM 22.05 (Debian 12). For others: cgroup.conf below depends on the version.
# Where there is no mariadb-server-core package (Ubuntu 22.04), install mariadb-server.

set -euo pipefail

say() { printf 'local_cluster.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
misused() { say "$* (see the head of $0)"; exit 2; }

# ------------------------------------------------------------------------------------ options

declare -A option=([accounting]=yes [cpus]=$(nproc) [max_array]=1001 [min_job_age]=300
                   [kill_wait]=5 [requeue_delay]=10)
declare -A given=()
dir=${XDG_STATE_HOME:-${HOME:-}/.local/state}/ns_bench/slurm

verb=${1:-}
[[ $# == 0 ]] || shift
while (($#)); do
  case $1 in
    --no-accounting) given[accounting]=no; shift; continue ;;
    --dir | --cpus | --max-array | --min-job-age | --kill-wait | --requeue-delay) ;;
    *) misused "unknown option $1" ;;
  esac
  (($# > 1)) || misused "$1 needs a value"
  if [[ $1 == --dir ]]; then
    dir=$2
  else
    [[ $2 =~ ^(0|[1-9][0-9]{0,6})$ ]] || misused "$1 needs a whole number, not '$2'"
    name=${1#--}
    given[${name//-/_}]=$2
  fi
  shift 2
done
[[ ${given[cpus]:-1} != 0 && ${given[max_array]:-1} != 0 ]] || misused "0 is too few"
((${given[requeue_delay]:-10} >= 5)) || misused "SLURM takes no --requeue-delay under 5"

dir=$(realpath -m -- "$dir")
host=$(hostname -s)
# SLURM's files quote nothing, and a socket's path has at most 107 characters; the longest one is
# slurmstepd's, spool/<host>_<job id>.<step id>.
[[ $dir =~ ^[A-Za-z0-9_./@+-]+$ ]] || misused "letters that SLURM's files cannot hold in '$dir'"
((${#dir} + ${#host} + 26 <= 107)) || misused "the path is too long for a socket: $dir"

conf=$dir/slurm.conf
munge_socket=$dir/run/munge.sock
mysql_socket=$dir/run/mysql.sock
daemons=(munged mariadbd slurmdbd slurmctld slurmd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # not on everybody's

[[ ${SLURM_CONF:-} != "$conf" || -z ${SLURM_JOB_ID:-} || $verb == status ]] \
  || die "this is a job of that cluster: it cannot start or end it"
# Nothing of another cluster or of the caller's habits reaches the daemons and the commands below.
unset "${!SLURM@}" "${!SBATCH_@}" "${!SQUEUE_@}" "${!SINFO_@}" "${!SACCT@}" "${!SCANCEL_@}"
export SLURM_CONF=$conf
umask 022

# ------------------------------------------------------------------------------------ packages

# Sets `packages` to those that are needed and missing; with `all`, to all that are needed.
find_packages() {
  local pair
  local needed=(munged:munge slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client)
  if [[ ${option[accounting]} == yes ]]; then
    needed+=(slurmdbd:slurmdbd mariadbd:mariadb-server-core
             my_print_defaults:mariadb-client-core) # mariadb-install-db needs it
  fi
  packages=()
  for pair in "${needed[@]}"; do
    if [[ ${1:-} == all ]] || ! command -v "${pair%%:*}" >/dev/null; then
      packages+=("${pair#*:}")
    fi
  done
}

install() {
  local sudo=()
  ((EUID == 0)) || sudo=(sudo)
  option[accounting]=${given[accounting]:-yes}
  find_packages all
  "${sudo[@]}" apt-get update -q >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${packages[@]}" >&2
}

# ------------------------------------------------------------------------------------ processes

# The start time of a live process; with its id it names the process for good.
born() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${stat##*) }" # the name before it may hold anything
  [[ ${fields[0]} != [ZX] ]] && printf '%s\n' "${fields[19]}"
}

# The process id of one of our daemons, if it runs.
pid_of() {
  local pid start
  { read -r pid start <"$dir/run/$1.started"; } 2>/dev/null || return 1
  [[ $(born "$pid") == "$start" ]] && printf '%s\n' "$pid"
}

any_up() {
  local name
  for name in "${daemons[@]}"; do
    if pid_of "$name" >/dev/null; then return 0; fi
  done
  return 1
}

started=() # by this call
start() {  # NAME COMMAND...: in a session of its own, holding nothing of the caller's open
  local name=$1
  shift
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi # 255 is bash's own
    done
    cd "$dir"
    exec setsid "$@" </dev/null >"$dir/log/$name.out" 2>&1
  ) &
  started+=("$name")
  printf '%s %s\n' "$!" "$(born "$!" || echo gone)" >"$dir/run/$name.started"
}

give_up() { # REASON NAME: with what the log NAME has on it
  local log=$dir/log/$2.out
  die "$1: $(grep -im1 fatal "$log" || echo "no fatal error"); $log ends"$'\n'"$(tail -n 8 "$log")"
}

await() { # NAME SECONDS COMMAND...: wait until it succeeds; say why if it never does
  local name=$1 seconds=$2 failure=''
  local deadline=$((SECONDS + seconds))
  shift 2
  until pid_of "$name" >/dev/null && "$@" >/dev/null 2>&1; do
    if ! pid_of "$name" >/dev/null; then
      failure="$name ended at once"
    elif ((SECONDS >= deadline)); then
      failure="$name was not ready within $seconds s"
    fi
    if [[ $failure ]]; then give_up "$failure" "$name"; fi
    sleep 0.1
  done
}

stop() { # NAME: SIGTERM, and SIGKILL after 10 s
  local pid tenths
  if pid=$(pid_of "$1"); then
    kill "$pid" 2>/dev/null || true
    for ((tenths = 0; tenths < 100; tenths++)); do
      pid_of "$1" >/dev/null || break
      sleep 0.1
    done
    if pid_of "$1" >/dev/null; then
      say "$1 ($pid) does not end: killed"
      kill -KILL "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$dir/run/$1.started"
}

# What outlives slurmctld and slurmd. Their children (slurmstepd, slurmscriptd) overwrite their own
# environment, but hold our log open; what a job starts has SLURM_CONF and a job id in its
# environment, also with `sbatch --export=NONE` and when it has left its process group. (The path in
# `-lname` is no pattern: see the letters that a folder may have.) slurmdbd is not among them: it
# ends by itself.
strays() {
  local link pid file
  while read -r link; do
    pid=${link#/proc/}
    pid=${pid%%/*}
    if [[ $(readlink "/proc/$pid/exe") == */slurm* ]]; then printf '%s\n' "$pid"; fi
  done < <(find /proc/[0-9]*/fd -lname "$dir/log/slurmctld.*" -o -lname "$dir/log/slurmd.*" \
    2>/dev/null || true)
  while read -r file; do
    if grep -qsz '^SLURM_JOB_ID=' "$file"; then
      pid=${file#/proc/}
      printf '%s\n' "${pid%%/*}"
    fi
  done < <(grep -lsazxF "SLURM_CONF=$conf" /proc/[0-9]*/environ || true)
}

# ------------------------------------------------------------------------------------ the files

used_ports() { # [STATE]: the local TCP ports, each with a space behind it; 0A is listening
  local address state
  while read -r _ address _ state _; do
    if [[ $address == *:* && ${1:-$state} == "$state" ]]; then printf '%d ' "0x${address##*:}"; fi
  done < <(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true)
}

listens() { [[ " $(used_ports 0A)" == *" $1 "* ]]; } # without a connection, which SLURM would log

# Sets `ports` to $1 free ones, below those that the kernel hands out by itself.
find_ports() {
  local used port
  used=" $(used_ports)"
  ports=()
  while ((${#ports[@]} < $1)); do
    port=$((20000 + RANDOM % 10000))
    if [[ $used != *" $port "* ]]; then
      ports+=("$port")
      used+="$port "
    fi
  done
}

write_files() {
  local user name version max_jobs
  user=$(id -un)
  mkdir -p "$dir"/{log,run,state,spool}
  rm -f "$dir"/run/*.started "$munge_socket"* "$mysql_socket"
  find_ports 3
  for name in "${!option[@]}"; do printf '%s=%s\n' "$name" "${option[$name]}"; done >"$dir/options"
  printf 'dbd_port=%s\n' "${ports[2]}" >>"$dir/options"
  option[dbd_port]=${ports[2]}

  if [[ ! -s $dir/munge.key ]]; then
    (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
  fi

  # Nothing below uses cgroups, but slurmd sets them up where it finds cgroup v2: it then needs
  # systemd, and does not start without. 22.05 has no `disabled` yet; v1 does nothing until used.
  version=$(slurmctld -V)
  version=${version#* }
  case $version in
    2[01].*) rm -f "$dir/cgroup.conf" ;;
    22.* | 23.02.*) echo CgroupPlugin=cgroup/v1 >"$dir/cgroup.conf" ;;
    *) echo CgroupPlugin=disabled >"$dir/cgroup.conf" ;;
  esac

  max_jobs=$((option[max_array] > 5000 ? 2 * option[max_array] : 10000))
  cat >"$conf" <<END
# Written by local_cluster.sh.
ClusterName=ns_bench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$munge_socket,cred_expire=${option[requeue_delay]}
SlurmctldPort=${ports[0]}
SlurmdPort=${ports[1]}
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SlurmctldSyslogDebug=quiet
SlurmdSyslogDebug=quiet
MailProg=/bin/true

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# lets the node claim more CPUs than the machine has
SlurmdParameters=config_overrides
ReturnToService=2

JobRequeue=1
KillWait=${option[kill_wait]}
MinJobAge=${option[min_job_age]}
MaxArraySize=${option[max_array]}
MaxJobCount=$max_jobs

SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1,default_queue_depth=1000
SchedulerTimeSlice=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE

NodeName=$host NodeHostname=$host NodeAddr=127.0.0.1 CPUs=${option[cpus]} RealMemory=$(memory)
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=preempt Nodes=$host MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE
END

  if [[ ${option[accounting]} == yes ]]; then
    cat >>"$conf" <<END

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=${ports[2]}
AccountingStoragePass=$munge_socket
END
    rm -f "$dir/slurmdbd.conf"
    (umask 077 && cat >"$dir/slurmdbd.conf") <<END
# Written by local_cluster.sh.
SlurmUser=$user
AuthType=auth/munge
AuthInfo=socket=$munge_socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=${ports[2]}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$user
LogFile=$dir/log/slurmdbd.log
PidFile=$dir/run/slurmdbd.pid
DebugLevelSyslog=quiet
END
  else
    echo 'AccountingStorageType=accounting_storage/none' >>"$conf"
  fi
}

memory() { # in MiB
  local key kilobytes
  while read -r key kilobytes _; do
    if [[ $key == MemTotal: ]]; then echo $((kilobytes / 1024)); fi
  done </proc/meminfo
}

# ------------------------------------------------------------------------------------ the daemons

# These records need not survive a power cut, and the tables are made several times faster so.
mysql_options=(--no-defaults --datadir="$dir/mysql" --innodb-log-file-size=16M
               --loose-innodb-flush-method=nosync --loose-sync-frm=0)
((EUID != 0)) || mysql_options+=(--user=root)

make_database() {
  [[ ! -e $dir/mysql/.made ]] || return 0
  rm -rf "$dir/mysql"
  # The user who runs this may connect, by the socket alone; slurmdbd makes its own database.
  mariadb-install-db "${mysql_options[@]}" --skip-test-db --skip-name-resolve \
    --auth-root-authentication-method=socket --auth-root-socket-user="$(id -un)" \
    >"$dir/log/mariadb-install-db.out" 2>&1 </dev/null \
    || give_up "mariadb-install-db failed" mariadb-install-db
  touch "$dir/mysql/.made"
}

start_munged() {
  rm -f "$munge_socket"*
  start munged munged --foreground --force --num-threads=4 --socket="$munge_socket" \
    --key-file="$dir/munge.key" --pid-file="$dir/run/munged.pid" \
    --seed-file="$dir/run/munged.seed" --log-file="$dir/log/munged.log"
  await munged 20 test -S "$munge_socket"
}

start_mariadbd() {
  make_database
  rm -f "$mysql_socket"
  start mariadbd mariadbd "${mysql_options[@]}" --skip-networking --socket="$mysql_socket" \
    --pid-file="$dir/run/mariadbd.pid" --tmpdir="$dir/run" --skip-log-bin \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 --skip-innodb-doublewrite
  await mariadbd 60 test -S "$mysql_socket"
}

start_slurmdbd() {
  start slurmdbd env MYSQL_UNIX_PORT="$mysql_socket" slurmdbd -D
  await slurmdbd 60 dbd_answers
  if [[ -z $(sacctmgr -nP list cluster ns_bench format=cluster) ]]; then
    sacctmgr -i add cluster ns_bench >/dev/null
  fi
}
# The port is tried first, for sacctmgr is slow to give up.
dbd_answers() { listens "${option[dbd_port]}" && sacctmgr -nP list cluster; }

start_slurmctld() {
  start slurmctld slurmctld -D
  await slurmctld 60 scontrol_answers
}
scontrol_answers() { listens "$(setting SlurmctldPort)" && scontrol ping && scontrol show node; }

start_slurmd() {
  start slurmd slurmd -D
}
node_state() { sinfo -h -p debug -o %T; }
node_ready() { # slurmctld remembers a slurmd that has gone, so this asks both
  listens "$(setting SlurmdPort)" && [[ $(node_state) =~ ^(idle|mixed|allocated|completing)$ ]]
}

setting() { # NAME: its value in slurm.conf
  local line
  while read -r line; do
    if [[ $line == "$1="* ]]; then printf '%s\n' "${line#*=}"; fi
  done <"$conf"
}

# ------------------------------------------------------------------------------------ the verbs

lock() {
  exec 9>"$dir/lock"
  flock -w 180 9 || die "another local_cluster.sh has been at work in $dir for 3 minutes"
}

load_options() {
  local name value
  while IFS='=' read -r name value; do option[$name]=$value; done <"$dir/options"
}

wanted() { # the daemons that this cluster has
  local name
  for name in "${daemons[@]}"; do
    if [[ ${option[accounting]} == yes || $name != @(mariadbd|slurmdbd) ]]; then echo "$name"; fi
  done
}

undo() { # a failed or interrupted `up` leaves nothing running
  local i
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do stop "${started[i]}"; done
}

up() {
  local name
  mkdir -p "$dir"
  lock
  if any_up; then
    load_options
    for name in "${!given[@]}"; do
      [[ ${given[$name]} == "${option[$name]}" ]] \
        || die "$dir is up with $name=${option[$name]}, not ${given[$name]}: end it first"
    done
  else
    for name in "${!given[@]}"; do option[$name]=${given[$name]}; done
  fi
  find_packages
  if ((${#packages[@]})); then
    say "missing; run '$0 install', or apt-get install --no-install-recommends ${packages[*]}"
    exit 2
  fi
  any_up || write_files

  trap undo EXIT
  for name in $(wanted); do
    if ! pid_of "$name" >/dev/null; then "start_$name"; fi
  done
  await slurmd 60 node_ready
  if [[ ${option[accounting]} == yes ]]; then await slurmctld 30 sacct; fi
  trap - EXIT

  if ((${#started[@]})); then
    say "up in $dir (${option[cpus]} CPUs; started ${started[*]}); $0 down --dir $dir ends it"
  else
    say "was up in $dir"
  fi
  printf 'export SLURM_CONF=%s\n' "$conf"
}

down() {
  local i deadline jobs pid pids found=''
  [[ -e $dir/options ]] || { say "nothing is up in $dir"; return 0; }
  lock
  load_options
  if any_up; then found=yes; fi
  if pid_of slurmctld >/dev/null && listens "$(setting SlurmctldPort)"; then
    # More than once, for a job that ends may submit another. What ignores SIGTERM is killed below.
    deadline=$((SECONDS + option[kill_wait] + 2))
    while ((SECONDS < deadline)); do
      mapfile -t jobs < <(squeue -h -o %F 2>/dev/null | sort -u)
      ((${#jobs[@]})) || break
      scancel --quiet "${jobs[@]}" >/dev/null 2>&1 || true
      sleep 0.2
    done
  fi
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
    stop "${daemons[i]}"
    if [[ ${daemons[i]} == slurmctld ]]; then
      # Both that start processes are gone now. Twice, for one may just have been forking.
      for _ in 1 2; do
        mapfile -t pids < <(strays | sort -un)
        for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
        ((${#pids[@]})) || break
        sleep 0.2
      done
    fi
  done
  if [[ $found ]]; then say "down: $dir"; else say "nothing was up in $dir"; fi
}

status() {
  local name pid all=0
  [[ -e $dir/options ]] || { say "no cluster in $dir"; return 1; }
  load_options
  for name in $(wanted); do
    if pid=$(pid_of "$name"); then
      printf '%-10s up, process %s\n' "$name" "$pid"
    else
      printf '%-10s down\n' "$name"
      all=1
    fi
  done
  if pid_of slurmctld >/dev/null && listens "$(setting SlurmctldPort)"; then
    printf '%-10s %s, %s CPUs, %s jobs in the queue\n' "$host" "$(node_state)" "${option[cpus]}" \
      "$(squeue -h -r -o %i | wc -l)"
    node_ready || all=1
  fi
  printf '%-10s %s\n' SLURM_CONF "$conf"
  return "$all"
}

case $verb in
  up | down | status | install) "$verb" ;;
  *) misused "up, down, status or install?" ;;
esac
