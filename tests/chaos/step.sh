# What a step of the load does on its asset: set LOG NUMBER STEP TICKS, then `. step.sh`. One short line a mark, appended
# with one write(2), so lines of different processes stand in the file in the order in which things happened:
#   UPTIME start|tick|end:CODE NUMBER STEP FENCE RUN
# Nothing here kills the kernel, so what was written stays, whoever dies; UPTIME cannot jump.
exec 3>>"$LOG"
mark() {
    read -r up _ </proc/uptime
    printf '%s %s %s %s %s %s\n' "$up" "$1" "$NUMBER" "$STEP" "$OPSCONDUCTOR_FENCE" "$OPSCONDUCTOR_RUN" >&3
}
work() {
    left=$1
    while [ "$left" -gt 0 ]; do
        sleep 0.05
        mark tick
        left=$((left - 1))
    done
}
finish() {
    mark "end:$1"
    exit "$1"
}
# The worker is the parent of the warden, which is the parent of this shell. Whoever has taken over an orphan is spared.
kill_worker() {
    read -r status <"/proc/$PPID/stat"
    set -- $status
    case $(tr '\0' ' ' <"/proc/$4/cmdline") in
        *"manage.py worker"*) kill -9 "$4" ;;
    esac
}
mark start
