# Runs one command on this machine and ends it when it is told to, when nobody holds the other end any more, or when the
# right to run it is over. For any POSIX sh. See docs/decisions/0019-ssh.md.
#
# Set before: N  what begins our own lines on stdout, which no command can know   R  value of OPSCONDUCTOR_RUN
#             D  working directory, or empty       B  bytes of standard input to come
#             U  reading of this machine's clock at which the right is over, or empty       S  how long it can last at most
#             bring_environment, and the command as the arguments. Times are hundredths of a second.
# Lines in:   data BYTES (the bytes follow) | until U S | stop GRACE
# Lines out:  N failed WHAT | N fed | N stopping | N stopped|lost|expired gone|PIDS | N exit CODE, the last; N on stderr, its last.
set -f
exec 3<&0 5>&1 </dev/null
trap '' PIPE HUP
T='' stopping='' group='' born=-100

say() { printf '%s %s\n' "$N" "$*" >&5; }

clock() {
    # By date only whole seconds are known: it is taken for as late as it can be.
    if read -r now rest </proc/uptime; then now=${now%.*}${now#*.}; else now=$(date +%s)99; fi
} 2>/dev/null

nap() { sleep "0.$pause" || sleep 1; } 2>/dev/null

longer() { case $pause in 02) pause=05 ;; 05) pause=1 ;; 1) pause=2 ;; *) pause=4 ;; esac; }

busy() {
    # How many processes run, and the number of the one that was born last.
    read -r rest rest rest running newest </proc/loadavg || running=0 newest=0
    running=${running%/*}
} 2>/dev/null

search() {
    # What of these files of processes tells of ours.
    found=$(grep -ls -e "OPSCONDUCTOR_RUN=$R" -e "^[0-9]* (.*) [^ZX] [0-9]* [0-9]* $C " -e "^$C (.*) [^ZX] $$ " "$@")
    # 1: nothing. 2: some could not be read, since they are others' or have gone. Beyond that nobody has looked.
    [ "$?" -le 2 ] || left=unknown
    for found in $found; do
        found=${found#/proc/}
        found=${found%/*}
        case " $left " in *" $found "*) ;; *) left="$left $found" ;; esac
    done
    left=${left# }
} 2>/dev/null

scan() {
    # What is left of it: what carries its mark, or is in its session, or is the child of ours that will become it.
    left=
    if [ ! -r /proc/self/stat ]; then
        if kill -0 "-$C" || kill -0 "$C"; then left="-$C $C"; fi
        return
    fi 2>/dev/null
    busy
    before=$newest
    set +f
    search /proc/[0-9]*/environ /proc/[0-9]*/stat
    # One that was born while we looked, of one that has gone since, was in no list: look at those too. Numbers go round.
    [ -n "$left" ] || {
        busy
        young=
        for found in /proc/[0-9]*; do
            number=${found#/proc/}
            if [ "$number" -gt "$before" ]; then
                [ "$number" -le "$newest" ] || [ "$newest" -lt "$before" ] || continue
            else
                [ "$number" -le "$newest" ] && [ "$newest" -lt "$before" ] || continue
            fi
            young="$young $found/environ $found/stat"
        done
        [ -z "$young" ] || { set -f; search $young; }
    }
    set -f
}

give_way() {
    # When many are ended on one machine, those that still have to be told come before the look for what these have left.
    for rest in 1 1 1; do
        busy
        [ "$running" -gt 32 ] || return 0
        sleep 1
    done
} 2>/dev/null

end_it() {
    # $1: for so long it may tidy up. $2: why.
    trap '' TERM
    clock
    over=$((now + $1)) pause=02 asked='' left=unseen
    if [ "$1" -gt 0 ]; then
        kill -TERM "-$C"
        kill -CONT "-$C"
        say stopping
        while [ "$now" -lt "$over" ]; do
            if ! kill -0 "-$C"; then
                [ -n "$asked" ] || give_way
                scan
                [ -n "$left" ] || break
                [ -n "$asked" ] || kill -TERM $left
                asked=1
            fi
            nap
            longer
            clock
        done
    fi 2>/dev/null
    if [ -n "$left" ]; then
        kill -KILL "-$C" 2>/dev/null
        say stopping
        clock
        over=$((now + 300)) pause=02
        while scan; [ -n "$left" ] && [ "$now" -lt "$over" ]; do
            kill -KILL $left 2>/dev/null
            nap
            longer
            clock
        done
    fi
    say "$2" "${left:-gone}"
}

timer() {
    sleeper=
    trap '[ -z "$!" ] || kill "$!"; exit 0' TERM
    # Not as a child in front: this shell has to hear that it is not wanted any more.
    sleep "$1" </dev/null >/dev/null 2>&1 3<&- 5>&- &
    sleeper=$!
    wait "$sleeper"
    # One that did not hear that the run was over must not touch its number, which may be somebody else's by now.
    kill -0 "$$" 2>/dev/null || exit 0
    end_it 0 expired
}

arm() {
    [ -n "$1" ] || return 0
    old=$T
    clock
    remains=$(($1 - now))
    [ "$remains" -le "$2" ] || remains=$2
    [ "$remains" -gt 0 ] || remains=0
    # A signal in the moment of its birth is lost to a shell: one that is so young is given the time to listen.
    [ "$((now - born))" -gt 20 ] || { pause=2 && nap; }
    timer "$((remains / 100)).$((remains / 10 % 10))" &
    T=$!
    born=$now
    [ -z "$old" ] || kill "$old" 2>/dev/null
}

bye() {
    # The command is over. What is ending it now finishes that; nobody else is to touch its number from now on.
    [ -z "$T" ] || kill "$T"
    [ -n "$stopping" ] || [ -z "$!" ] || kill "$!"
    wait
    exit 0
} 2>/dev/null

control() {
    trap bye TERM
    arm "$U" "$S"
    while read -r word first second; do
        case $word in
        data) take "$first" >&6 ;;
        until) arm "$first" "$second" ;; # also while it is being stopped: the grace is cut by the lease alone
        stop)
            if [ -z "$stopping" ]; then
                stopping=1
                end_it "$first" stopped &
            else
                kill -KILL "-$C" 2>/dev/null
                end_it 0 stopped &
            fi
            ;;
        esac
    done
    end_it 0 lost
    bye
}

take() { if [ "$exact" = cd ]; then head -c "$1"; else dd ibs=1 obs=16384 count="$1"; fi; } 2>/dev/null

feed() {
    # Takes what comes for the command's input, and says so, so that no more is sent than is wanted. When nobody reads
    # it any more it is taken all the same: what is left lying would be read as lines for the guard.
    rest=$B
    while [ "$rest" -gt 0 ]; do
        block=16384
        [ "$rest" -ge "$block" ] || block=$rest
        take "$block" || break
        rest=$((rest - block))
        say fed
    done
    [ "$rest" -eq 0 ] || { exec >&-; cat >/dev/null; }
}

prepare_input() {
    # Two pipes with a process between them: what waits for the command must never keep the guard from its lines.
    exact=$(printf abcd | { head -c 2 >/dev/null 2>&1; cat; })
    folder=
    for place in "${XDG_RUNTIME_DIR:-}" /dev/shm "${TMPDIR:-}" /tmp /var/tmp "${HOME:-}"; do
        [ -n "$place" ] && [ -d "$place" ] && [ -w "$place" ] || continue
        folder=$(umask 077 && mktemp -d "$place/.opsconductor.XXXXXX") && break
    done 2>/dev/null
    [ -n "$folder" ] || return 1
    mkfifo -m 600 "$folder/1" "$folder/2" || { rm -rf -- "$folder"; return 1; }
    exec 4<>"$folder/1" 6>"$folder/1" 7<"$folder/1"
    exec 4<>"$folder/2" 8>"$folder/2" 9<"$folder/2"
    exec 4<&-
    rm -rf -- "$folder"
} 2>/dev/null

find_command() {
    # $1: what begins our lines. $2: the command, looked for on the plan's PATH.
    case $2 in
    */*)
        [ -e "$2" ] || { printf '%s failed not_found\n' "$1" >&5; return 1; }
        [ -x "$2" ] && [ ! -d "$2" ] || { printf '%s failed not_executable\n' "$1" >&5; return 1; }
        return 0
        ;;
    esac
    seen=not_found
    IFS=:
    for folder in $PATH; do
        [ -f "${folder:-.}/$2" ] || continue
        [ ! -x "${folder:-.}/$2" ] || return 0
        seen=not_executable
    done
    printf '%s failed %s\n' "$1" "$seen" >&5
    return 1
}

lead() {
    opsconductor_leader=$1
    shift
    exec "$opsconductor_leader" -- "$@" 5>&-
}

start() {
    trap - PIPE HUP
    if [ -n "$D" ]; then cd -- "$D" 2>/dev/null || { say failed directory; exit 127; }; fi
    # From here on every variable may be the plan's: what is still needed of ours stands in the arguments.
    set -- "$N" "$group" "$@"
    bring_environment || { printf '%s failed environment\n' "$1" >&5; exit 127; }
    (find_command "$1" "$3") || exit 127
    shift
    [ -z "$1" ] || lead "$@"
    shift
    exec "$@" 5>&-
}

if [ -n "$U" ]; then
    # This script may have been long on its way: by now somebody else may act here.
    clock
    [ "$now" -lt "$U" ] || { say failed late; echo "$N" >&2; say exit 127; exit 0; }
fi
group=$(command -v setsid 2>/dev/null)
[ -n "$group" ] || set -m 2>/dev/null
# A subshell and `exec` each: redirections of a function leave copies of what they hide, and a pipe would have no end.
if [ "$B" -gt 0 ]; then
    prepare_input || { say failed input; echo "$N" >&2; say exit 127; exit 0; }
    (exec <&9 3<&- 6>&- 7<&- 8>&- 9<&-; start "$@") &
    C=$!
    set +m 2>/dev/null
    (exec <&7 >&8 3<&- 6>&- 7<&- 8>&- 9<&-; feed) &
    (exec <&3 3<&- 7<&- 8>&- 9<&-; control) &
    K=$!
    exec 6>&- 7<&- 8>&- 9<&-
else
    (exec 3<&-; start "$@") &
    C=$!
    set +m 2>/dev/null
    (exec <&3 3<&-; control) &
    K=$!
fi
exec 3<&-
{
    wait "$C"
    code=$?
    # Its group is not somebody else's by now: for that its number would have to come round within this moment.
    kill -KILL "-$C"
    kill -TERM "$K"
    # The timer may have been born in this moment, and not have heard its signal: say it again until all are gone.
    # Less and less often: what takes long is the look for what a stop has left, and the machine is busy then.
    { sleep 0.1; rest=1; while kill -TERM "$K"; do sleep "$rest"; rest=$((rest < 4 ? rest + 1 : 4)); done } \
        </dev/null >/dev/null 5>&- &
    H=$!
    wait "$K"
    kill "$H"
} 2>/dev/null
echo "$N" >&2
say exit "$code"
exit 0
