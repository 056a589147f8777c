# Looks whether anything is left of a command whose connection was lost, and ends it. Set before: N, R as in guard.sh.
# Out: N gone|unknown|PIDS. The guard on the other end of that connection does the same; this is to know of it.
[ -r /proc/self/environ ] || { echo "$N unknown"; exit 0; }
tries=0
while :; do
    left=$(grep -ls -e "OPSCONDUCTOR_RUN=$R" /proc/[0-9]*/environ 2>/dev/null)
    [ "$?" -le 2 ] || { echo "$N unknown"; exit 0; } # nobody has looked
    left=$(for found in $left; do found=${found#/proc/}; printf '%s ' "${found%/*}"; done)
    [ -n "$left" ] && [ "$tries" -lt 15 ] || break
    kill -KILL $left 2>/dev/null
    tries=$((tries + 1))
    sleep 0.2 2>/dev/null || sleep 1
done
echo "$N ${left:-gone}"
exit 0
