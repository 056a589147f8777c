# The processes of this machine, all or those whose line holds the text $1. Exit 1 when none does.
# Marker: opsconductor-ps-4d1f
set -u
export LC_ALL=C
# busybox knows fewer columns, and not always etime.
lines=$(ps -A -ww -o pid,ppid,user,pcpu,pmem,etime,args 2> /dev/null) ||
    lines=$(ps -o pid,ppid,user,vsz,etime,args 2> /dev/null) ||
    lines=$(ps -o pid,ppid,user,vsz,args) || exit 1
[ -n "$1" ] || { printf '%s\n' "$lines"; exit 0; }
# This program has the text among its own arguments, and so has a login shell that was asked to start it: lines with the
# marker go, and those of this program's children.
printf '%s\n' "$lines" | TEXT=$1 SELF=$$ awk '
    NR == 1 { print; next }
    $1 == ENVIRON["SELF"] || $2 == ENVIRON["SELF"] || index($0, "opsconductor-ps-4d1f") { next }
    index($0, ENVIRON["TEXT"]) { print; found = 1 }
    END { exit !found }' || { printf 'no process has that text in its line\n' >&2; exit 1; }
