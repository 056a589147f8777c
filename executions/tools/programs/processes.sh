# The processes of this machine, all or those whose line holds the text $1. Exit 1 when none does.
set -u
export LC_ALL=C
# busybox does not know pcpu and pmem.
lines=$(ps -A -ww -o pid,ppid,user,pcpu,pmem,etime,args 2> /dev/null) ||
    lines=$(ps -A -o pid,ppid,user,vsz,etime,args) || exit 1
[ -n "$1" ] || { printf '%s\n' "$lines"; exit 0; }
# This program itself has the text in its arguments, and so may what started it: its own line and its children's go.
printf '%s\n' "$lines" | TEXT=$1 SELF=$$ awk '
    NR == 1 { print; next }
    $1 == ENVIRON["SELF"] || $2 == ENVIRON["SELF"] { next }
    index($0, ENVIRON["TEXT"]) { print; found = 1 }
    END { exit !found }' || { printf 'no process has that text in its line\n' >&2; exit 1; }
