# Facts about this machine. $1 kind, $2 path (disk only). Falls back to /proc where a program is missing.
set -u
export LC_ALL=C
have() { command -v "$1" > /dev/null 2>&1; }

case $1 in
uptime) if have uptime; then uptime; else cat /proc/uptime; fi ;;
disk) if [ -n "$2" ]; then df -P -h -- "$2"; else df -P -h; fi ;;
memory) if have free; then free -m; else cat /proc/meminfo; fi ;;
cpu) if have lscpu; then lscpu; else cat /proc/cpuinfo; fi ;;
load) cat /proc/loadavg ;;
os)
    uname -a || exit 1
    [ ! -r /etc/os-release ] || cat /etc/os-release
    ;;
hostname) if have hostname; then hostname; else uname -n; fi ;;
*) printf 'unknown kind %s\n' "$1" >&2; exit 2 ;;
esac
