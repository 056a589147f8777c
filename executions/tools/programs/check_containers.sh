# What docker would do. $1 action, $2 container, $3 force.
state=$(docker inspect --type=container --format='{{.State.Status}}' -- "$2") || exit 1
printf '%s is %s\n' "$2" "$state"

case $1:$state in
start:running) same "$2 is running" ;;
stop:exited | stop:created | stop:dead) same "$2 is not running" ;;
pause:running | unpause:paused) would "$1 $2" ;;
pause:*) fail "$2 is not running, so it cannot be paused" ;;
unpause:*) fail "$2 is not paused" ;;
remove:running | remove:paused | remove:restarting)
    [ "$3" = true ] || fail "$2 is $state; set force to remove it all the same"
    would "stop and remove $2"
    ;;
*) would "$1 $2" ;;
esac
