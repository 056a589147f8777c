# What systemctl would do. $1 action, $2 unit.
unit=$2

if [ "$1" = daemon-reload ]; then
    systemctl show --property=Version > /dev/null || exit 1
    would 'read the files of all units anew'
    exit 0
fi

shown=$(systemctl show --property=LoadState --property=ActiveState --property=UnitFileState -- "$unit") || exit 1
value() { printf '%s\n' "$shown" | sed -n "s/^$1=//p"; }
load=$(value LoadState) active=$(value ActiveState) file=$(value UnitFileState)
[ "$load" != not-found ] || fail "there is no unit $unit"
printf '%s is %s%s\n' "$unit" "${active:-unknown}" "${file:+, $file}"
[ "$load" != masked ] || [ "$1" = unmask ] || [ "$1" = mask ] || [ "$1" = stop ] || fail "$unit is masked, so it cannot be done"

case $1:$active:$file in
start:active:* | start:reloading:*) same "$unit is running" ;;
stop:inactive:* | stop:failed:* | try-restart:inactive:* | try-restart:failed:*) same "$unit is not running" ;;
reload:inactive:* | reload:failed:*) fail "$unit is not running, so it cannot be reloaded" ;;
enable:*:enabled | disable:*:disabled | mask:*:masked) same "$unit is $file" ;;
unmask:*:masked) would "unmask $unit" ;;
unmask:*) same "$unit is not masked" ;;
reset-failed:failed:*) would "forget that $unit failed" ;;
reset-failed:*) same "$unit has not failed" ;;
*) would "$1 $unit" ;;
esac
